"""Docstrings of the standard library and a small GPT-2 that continues them.

Out: a `Domain`. Weights are fitted on text that the network wrote. Embeddings are no group: a gradient is taken
of linear layers only, so the head does not share its weight with them.
"""

import ast
import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from attribution.files import load_tensors
from attribution.seeds import generator
from precompute.evaluate.elsewhere.domain import Domain, Examples

MODULES = (
    "argparse", "collections", "configparser", "datetime", "difflib", "doctest", "enum", "ftplib",
    "imaplib", "inspect", "ipaddress", "json", "logging", "mailbox", "optparse", "pdb", "pydoc",
    "shutil", "smtplib", "socketserver", "ssl", "statistics", "subprocess", "tarfile", "threading",
    "tkinter", "turtle", "typing", "zipfile",
)  # fmt: skip
VOCABULARY, LENGTH = 512, 64  # tokens
TRAIN, QUERIES = 400, 120  # pieces; queries for choosing settings, and as many to report
START = 0  # the token that every piece begins with


def docstrings() -> list[str]:
    """Read all docstrings of the modules, in the order of the files, without importing any."""
    found = []
    for name in MODULES:
        source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                found.append(ast.get_docstring(node) or "")
    return found


def pieces(texts: list[str]) -> Int[Tensor, "piece length"]:
    """Cut texts into pieces of `LENGTH` tokens of a byte-level BPE learned from them; what is left is dropped."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<start>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    cut = []
    for text in texts:
        tokens = tokenizer.encode(text).ids
        whole = len(tokens) // (LENGTH - 1) * (LENGTH - 1)
        cut += [[START, *tokens[i : i + LENGTH - 1]] for i in range(0, whole, LENGTH - 1)]
    return torch.tensor(cut)


def new_network() -> nn.Module:
    """Make an untrained GPT-2 of two blocks."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            n_embd=64,
            n_layer=2,
            n_head=4,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=START,
            eos_token_id=START,
            tie_word_embeddings=False,
        )
    )


def loss(network: nn.Module, tokens: Tensor) -> Float[Tensor, "row"]:
    """Give the mean cross-entropy of each piece's tokens after the first."""
    logits = network(input_ids=tokens).logits[:, :-1]
    return functional.cross_entropy(logits.mT, tokens[:, 1:], reduction="none").mean(1)


@torch.no_grad()
def write(network: nn.Module, count: int) -> Int[Tensor, "piece length"]:
    """Let the network write pieces, each token drawn from what it expects."""
    draw, tokens = generator("write"), torch.full((count, 1), START)
    while tokens.shape[1] < LENGTH:
        chances = network(input_ids=tokens).logits[:, -1].softmax(1)
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=draw)], 1)
    return tokens


def load(truth: Path) -> Domain:
    """Take 640 pieces, in an order drawn once.

    Docstrings change from one Python to the next, so that pieces kept in the ground truth come first.
    """
    if truth.is_file():
        return dealt(load_tensors(truth)["tokens"].long())
    every = pieces(docstrings())
    order = torch.randperm(len(every), generator=generator("docstrings"))
    return dealt(every[order[: TRAIN + 2 * QUERIES]])


def dealt(
    tokens: Int[Tensor, "piece length"],
    train: int = TRAIN,
    queries: int = QUERIES,
    epochs: int = 8,
) -> Domain:
    """Deal the pieces out; no piece has two uses."""
    ours, validation, evaluation = tokens.split([train, queries, queries])

    def unlabelled(network: nn.Module) -> Examples:
        return (write(network, queries),)

    return Domain(
        name="docstrings",
        network=new_network,
        loss=loss,
        train=(ours,),
        queries={"validation": (validation,), "evaluation": (evaluation,)},
        unlabelled=unlabelled,
        epochs=epochs,
        batch_size=20,
        learning_rate=3e-3,
        keep={"tokens": tokens.short()},
    )
