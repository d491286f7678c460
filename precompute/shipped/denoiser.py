"""Train the denoiser and its text encoder from nothing, on latents and captions.

In: latents of unit variance and captions. Out: an untrained pipeline's parts, and a resumable training
loop that predicts v (arXiv 2202.00512) and keeps an average of the parameters (EMA).
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from precompute.shipped.optimizer import MatrixOptimizer

PROMPT_LENGTH = 24  # tokens; longer prompts are cut
WIDTH = 128  # of the text encoder


def new_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Learn a CLIP byte-pair vocabulary from the captions; other words fall apart into letters."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    letters = sorted(alphabet)
    words = letters + [f"{x}</w>" for x in letters] + ["".join(m) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocabulary, merges, model_max_length=PROMPT_LENGTH)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build an untrained text encoder, two layers of 128."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=PROMPT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            projection_dim=WIDTH,
        )
    )


def new_unet(widths: tuple[int, int] = (64, 96)) -> UNet2DConditionModel:
    """Build an untrained denoiser of 8 x 8 x 16 latents: 2.9 M parameters, cross-attention throughout."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # number of heads, by diffusers' historical name
    )


def new_scheduler() -> DDIMScheduler:
    """Give the noise schedule, for training and for sampling."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


class _Both(nn.Module):
    """Hold the two networks that are trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder


def train_denoiser(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    scheduler: DDIMScheduler,
    latents: Tensor,
    tokens: Tensor,
    empty: Tensor,
    *,
    minutes: float = 0,
    steps: int = 0,
    pick: Callable[[torch.Generator], Tensor] | None = None,
    batch_size: int = 64,
    learning_rate: float,
    caption_dropout: float,
    seed: int,
    state_dir: Path,
    compiled: bool = False,
) -> list[dict[str, float]]:
    """Train in place until the time is spent or the steps are taken, ending on the EMA; return the loss curve.

    Give `minutes` or `steps`; `pick` chooses each batch's rows, any rows if not given. `tokens` [image, length]
    are the captions, `empty` [length] stands for a dropped one. The state is saved in `state_dir` once a
    minute; called again, training goes on from there.
    """
    pick = pick or (lambda draw: torch.randint(len(latents), (batch_size,), generator=draw))
    both = _Both(unet, text_encoder).train()
    denoise = torch.compile(unet) if compiled else unet
    parameters = list(both.parameters())
    optimizer = MatrixOptimizer(both, learning_rate)
    ema = EMAModel(parameters, decay=0.9995, use_ema_warmup=True, power=0.75)
    state_dir.mkdir(parents=True, exist_ok=True)
    curve, spent = _resume(state_dir, both, optimizer, ema)
    step = curve[-1]["step"] if curve else 0
    total, last, saved, losses = minutes * 60, time.monotonic(), spent, []
    bar = tqdm(total=round(total), initial=round(spent), desc="denoiser", unit="s")
    while (step < steps) if steps else (spent < total):
        done = step / steps if steps else spent / total
        rate = learning_rate * min(1.0, step / 200, (1 - done) / 0.4 + 0.005)
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = pick(draw)
        clean = latents[rows]
        timesteps = torch.randint(
            scheduler.config.num_train_timesteps, (len(rows),), generator=draw
        )
        noise = torch.randn(clean.shape, generator=draw)
        dropped = torch.rand(len(rows), generator=draw) < caption_dropout
        noisy = scheduler.add_noise(clean, noise, timesteps)
        target = scheduler.get_velocity(clean, noise, timesteps)
        condition = text_encoder(torch.where(dropped[:, None], empty, tokens[rows]))[0]
        predicted = denoise(noisy, timesteps, condition).sample
        loss = nn.functional.mse_loss(predicted, target)
        optimizer.step(loss, rate)
        ema.step(parameters)
        step += 1
        losses.append(loss.detach())
        now = time.monotonic()
        spent, last = spent + now - last, now
        bar.update(round(spent) - bar.n)
        finished = step >= steps if steps else spent >= total
        if step % 100 == 0 or finished:
            mean = torch.stack(losses[-100:]).mean().item()
            curve.append({"step": step, "loss": round(mean, 4), "seconds": round(spent)})
            bar.set_postfix(loss=curve[-1]["loss"], step=step)
            if spent - saved > 60 or finished:
                _save(state_dir, both, optimizer, ema, curve, spent)
                saved = spent
    bar.close()
    ema.copy_to(parameters)
    both.eval()
    return curve


def _save(
    folder: Path,
    both: nn.Module,
    optimizer: MatrixOptimizer,
    ema: EMAModel,
    curve: list,
    spent: float,
) -> None:
    tensors = {f"optimizer/{name}": value for name, value in optimizer.state().items()}
    for index, parameter in enumerate(both.parameters()):
        tensors[f"parameter/{index}"] = parameter.detach()
        tensors[f"average/{index}"] = ema.shadow_params[index]
    header = {
        "curve": json.dumps(curve),
        "spent": str(spent),
        "averaged": str(ema.optimization_step),
    }
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, folder / "state.part", metadata=header
    )
    (folder / "state.part").rename(folder / "state.safetensors")


def _resume(
    folder: Path, both: nn.Module, optimizer: MatrixOptimizer, ema: EMAModel
) -> tuple[list[dict[str, float]], float]:
    path = folder / "state.safetensors"
    if not path.is_file():
        return [], 0.0
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    for index, parameter in enumerate(both.parameters()):
        parameter.data.copy_(tensors[f"parameter/{index}"])
        ema.shadow_params[index].copy_(tensors[f"average/{index}"])
    prefix = "optimizer/"
    optimizer.load({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    ema.optimization_step = int(header["averaged"])
    return json.loads(header["curve"]), float(header["spent"])
