"""Unlearning moves a copy away from what is removed, more than from random images, and never the model itself."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attribution.answer.questions import GENERAL
from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.looks import unlearning
from attribution.looks.unlearning import UnlearnConfig, losses_of, unlearn, what_if
from attribution.models.diffusion import DiffusionModel, copy_of, moving_names
from attribution.pictures.collection import load_collection
from precompute import tables
from precompute.evaluate.unlearning import LISTS, concept_row, row_of

ASSETS = Path(__file__).parents[1] / "assets"
SHORT = UnlearnConfig(steps=2, batch_size=2)
PROMPT = "a woodcut of a teapot in the mountains"


@pytest.fixture(scope="module")
def model(small_model):
    return DiffusionModel.from_pretrained(small_model)


@pytest.fixture(scope="module")
def collection(small_collection):
    return load_collection(small_collection)


def parameters(model):
    return {name: x.clone() for name, x in model.pipeline.unet.state_dict().items()}


def pixels(image):
    return image.tobytes()


def asked(model, collection, rows, *arguments, **named):
    """What if, of a picture for which these rows alone speak."""
    scores = torch.zeros(len(collection))
    scores[rows] = 1.0
    return what_if(model, collection, PROMPT, rows, scores, *arguments, **named)


def test_a_copy_draws_the_same_and_shares_all_but_what_moves(model):
    copy = copy_of(model, moving=True)
    assert copy.fingerprint == model.fingerprint
    one, other = (each.generate([PROMPT], [3], 4)[0] for each in (model, copy))
    assert pixels(one) == pixels(other)
    mine = dict(model.pipeline.unet.named_parameters())
    for name, parameter in copy.pipeline.unet.named_parameters():
        assert (parameter.data_ptr() == mine[name].data_ptr()) != (name in moving_names(model))


def test_a_copy_leaves_hooks_and_the_global_stream_alone(model):
    layer = model.pipeline.unet.conv_in
    hook = layer.register_forward_hook(lambda *_: None)
    state = torch.get_rng_state()
    copy = copy_of(model)
    hook.remove()
    assert not copy.pipeline.unet.conv_in._forward_hooks
    assert torch.equal(torch.get_rng_state(), state)


def test_unlearning_changes_cross_attention_of_the_copy_and_nothing_else(model, collection):
    before = parameters(model)
    changed = parameters(unlearn(model, collection, [0, 5], SHORT))
    for name, value in before.items():
        assert torch.equal(changed[name], value) != (name in moving_names(model)), name
    assert all(torch.equal(x, before[n]) for n, x in parameters(model).items())
    assert not any(p.requires_grad for p in model.pipeline.unet.parameters())
    fresh = replace(model)  # whose fingerprint is not remembered
    assert fresh.fingerprint == model.fingerprint


def test_the_same_question_gets_the_same_answer(model, collection):
    first, again = (asked(model, collection, [1, 4], 3, config=SHORT) for _ in range(2))
    for one, other in zip(
        [first.before, first.after, *first.controls], [again.before, again.after, *again.controls], strict=True
    ):  # fmt: skip
        assert pixels(one.image) == pixels(other.image)
        assert (one.loss, one.apart, one.rows) == (other.loss, other.apart, other.rows)
    assert (first.share, first.aim) == (again.share, again.aim)
    assert pixels(first.before.image) == pixels(
        model.generate([PROMPT], [3], unlearning.DRAWING)[0]
    )


@pytest.fixture(scope="module")
def shipped():
    return Attributor.from_pretrained(ASSETS / "model", ASSETS / "cache", ASSETS / "collection")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "steps"), [(100, 40)])  # (300, 120), too, takes minutes
def test_the_shipped_model_loses_as_much_as_retraining_showed_and_controls_less(
    shipped, count, steps
):
    [image] = shipped.model.generate([PROMPT], [7])
    scores = shipped.attribute(image, PROMPT).scores[GENERAL]
    rows = scores.topk(count).indices.tolist()
    found = what_if(
        shipped.model,
        shipped.collection,
        PROMPT,
        rows,
        scores,
        7,
        config=UnlearnConfig(steps=steps),
    )
    rise = found.after.loss / found.before.loss - 1
    assert found.aim.rise <= rise < 1.05 * found.aim.rise + 0.002
    assert all(rise > 2 * (each.loss / found.before.loss - 1) for each in found.controls)
    assert found.after.apart > sum(each.apart for each in found.controls) / len(found.controls)


@pytest.mark.slow
def test_one_picture_of_thousands_changes_nothing(shipped):
    [image] = shipped.model.generate([PROMPT], [7])
    scores = shipped.attribute(image, PROMPT).scores[GENERAL]
    found = what_if(shipped.model, shipped.collection, PROMPT, [int(scores.argmax())], scores, 7)
    assert (found.aim, found.before, found.after, found.controls) == (None, None, None, [])
    assert 0 < found.share < unlearning.RETRAINED[0][0]


def test_what_retraining_showed_is_what_was_measured():
    rows = json.loads((ASSETS.parent / "benchmarks/results/removed.json").read_text())
    by_chance = {row["images"]: row["high"] for row in rows if row["removed"] == "random"}
    shown = [
        (row["share"], row["rise"], row["low"], row["high"])
        for row in rows
        if row["removed"] == "named" and row["low"] > max(by_chance[row["images"]], 0)
    ]
    assert shown == list(unlearning.RETRAINED)
    assert [each[:2] for each in shown] == sorted(each[:2] for each in shown)


@pytest.mark.parametrize("place", [0, -1])
def test_a_rise_is_read_between_the_shares_that_were_measured(place):
    share, rise, low, high = unlearning.RETRAINED[place]
    assert unlearning.expected(share) == unlearning.Rise(rise, low, high)
    assert unlearning.expected(0.99 * unlearning.RETRAINED[0][0]) is None
    beyond = unlearning.expected(1.0)
    assert (beyond.rise, beyond.low, beyond.high) == unlearning.RETRAINED[-1][1:]


def test_the_last_step_is_taken_only_as_far_as_it_must_be(model, collection):
    moved = []

    def far_enough(copy):
        name = moving_names(model)[0]
        weight = copy.denoiser.get_parameter(name)
        moved.append((weight - parameters(model)[name]).abs().max().item())
        return moved[-1] > 1.5e-3

    one = UnlearnConfig(steps=9, batch_size=2, learning_rate=1e-3)
    unlearn(model, collection, [0, 5], one, far_enough=far_enough)
    assert len(moved) < 9 + 1 + unlearning.HALVINGS
    assert 1.5e-3 < moved[-1] < 1.6e-3


def test_the_push_ends_where_predicting_nothing_would_cost_no_more(model, collection, monkeypatch):
    def lost(*arguments):
        losses, _ = losses_of(*arguments)
        return losses, losses.detach() / 2  # all that is removed counts as forgotten

    monkeypatch.setattr(unlearning, "losses_of", lost)
    still = unlearn(model, collection, [0, 5], replace(SHORT, away=1 - 1e-9))
    assert all(
        (x - parameters(model)[name]).abs().max() < 1e-4 for name, x in parameters(still).items()
    )


def test_control_rows_are_as_many_and_others(model, collection):
    found = asked(model, collection, [4, 1, 4], 3, config=SHORT)
    assert found.after.rows == [1, 4]
    assert len(found.controls) == unlearning.CONTROLS
    assert all(len(set(each.rows)) == 2 for each in found.controls)
    assert not any({1, 4} & set(each.rows) for each in found.controls)
    assert len({tuple(each.rows) for each in found.controls}) > 1
    half = asked(model, collection, list(range(0, 30, 2)), 3, config=SHORT)
    assert all(each.rows == list(range(1, 30, 2)) for each in half.controls)


def test_a_picture_without_a_seed_is_measured_itself_and_drawn_with_a_fixed_seed(model, collection):
    image = collection.image(0)
    upload = asked(model, collection, [1], image=image, config=SHORT)
    own = asked(model, collection, [1], seed=unlearning.FIXED_SEED, config=SHORT)
    assert (upload.seed_known, own.seed_known) == (False, True)
    assert pixels(upload.before.image) == pixels(own.before.image)
    assert upload.before.loss != own.before.loss


def test_progress_counts_every_step_once_to_the_end(model, collection):
    told = []
    asked(model, collection, [1], 3, config=SHORT, on_step=lambda *x: told.append(x))
    sets = 1 + unlearning.CONTROLS
    most = (1 + sets) * unlearning.DRAWING + sets * SHORT.steps * unlearning.FORGETTING
    done, total = zip(*told, strict=True)
    assert list(done) == sorted(set(done))
    assert list(total) == sorted(total, reverse=True)  # less, where few steps are enough
    assert total[0] == most
    assert done[-1] == total[-1]


@pytest.mark.parametrize("when", [1, 26, 27, 60])
def test_what_on_step_raises_stops_all_and_changes_nothing(model, collection, when):
    before, timesteps = parameters(model), model.pipeline.scheduler.timesteps

    stopped = []

    def cancel(done, total):
        assert not stopped
        if done >= when:
            stopped.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(model, collection, [1], 3, config=SHORT, on_step=cancel)
    assert all(torch.equal(x, before[n]) for n, x in parameters(model).items())
    assert model.pipeline.scheduler.timesteps is timesteps
    assert not any(p.requires_grad for p in model.pipeline.unet.parameters())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "0 images are to be removed; choose 1 to 15"),
        (list(range(16)), "16 images are to be removed"),
        ([0, 30], "30 is no row"),
        ([-1], "-1 is no row"),
        ([float("nan")], "nan is no row"),
        ([1.5], "1.5 is no row"),
    ],
)
def test_bad_rows_are_refused_in_a_sentence(model, collection, rows, words):
    for ask in (unlearn, lambda m, c, r: what_if(m, c, PROMPT, r, torch.zeros(len(c)))):
        with pytest.raises(InputError, match=words):
            ask(model, collection, rows)


@pytest.mark.parametrize(
    "setting",
    [{"steps": 0}, {"batch_size": 0}, {"learning_rate": float("nan")}, {"learning_rate": 0.0},
     {"away": 1.0}, {"away": float("nan")}],
)  # fmt: skip
def test_bad_settings_are_refused(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        UnlearnConfig(**setting)


def test_a_row_compares_with_random_and_says_nothing_of_a_ratio_to_nothing():
    changes = {name: [] for name in LISTS}
    for i in range(12):
        for name, factor in zip(LISTS, (4, 1, 2), strict=True):
            one = {"loss": factor * (1 + i % 3), "picture": 0.5, "unrelated": 0.0, "seconds": 1.0}
            changes[name].append(one)
    row = row_of("general", changes, 0)
    assert (row["over_random"], row["over_random_low"], row["over_random_high"]) == (4, 4, 4)
    assert (row["loss_change"], row["share_above_random"]) == (8, 1)
    assert "share_above_random" not in row_of("random", changes, 0)
    for one in changes["random"]:
        one["loss"] = 0.0
    unknown = row_of("general", changes, 0)
    assert unknown["over_random"] is None
    assert "| - |" in tables.unlearning([unknown])


def test_a_concepts_difference_is_its_own_phrase_less_the_other():
    changes = [{"style": 3.0, "subject": 1.0}] * 4
    assert concept_row("style", changes, 0)["difference"] == 2
    row = concept_row("subject", changes, 0)
    assert (row["difference"], row["low"], row["high"]) == (-2, -2, -2)
    assert "| -2.000 [-2.000, -2.000] |" in tables.unlearning([row])
