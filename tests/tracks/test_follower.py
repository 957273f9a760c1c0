"""One object: what transformers makes of it, what may be dropped, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Sam2VideoModel

from pipeline.tracks.follower import Follower, Look
from pipeline.tracks.prompts import Prompt
from pipeline.tracks.sam2_model import LoadedSam2
from pipeline.tracks.samurai import may_remember
from tests.tracks.sam2_made import SIDE, SIZE, blind, pixels, sam2_config

BOX = (8.0, 10.0, 40.0, 50.0)
FRAMES = 24
"""More than the 16 that a pointer is read in."""


@pytest.fixture(scope="module")
def plain(loaded: LoadedSam2, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same weights in transformers' own class."""
    folder = tmp_path_factory.mktemp("plain")
    loaded.model.save_pretrained(folder)
    return Sam2VideoModel.from_pretrained(folder).eval()


def look_on(follower: Follower, loaded: LoadedSam2, frames: range, box: Any = BOX) -> list[Look]:
    """The first frame is prompted where the follower knows none."""
    found = []
    for at in frames:
        prompt = Prompt(0, box) if at == 0 else None
        found.append(follower.look(at, loaded.picture(pixels(at)), prompt, SIZE))
    return found


def new(loaded: LoadedSam2, **given: Any) -> Follower:
    return Follower(loaded, sam2_config(**given), loaded.feature_cache())


def equal(one: list[Look], other: list[Look]) -> bool:
    assert len(one) == len(other)
    return all(
        torch.equal(a.logits, b.logits) and a.seen == b.seen
        for a, b in zip(one, other, strict=True)
    )


PROMPTS = {
    "box": (Prompt(0, BOX), [(8.0, 10.0), (40.0, 50.0)], [2, 3], 22),
    "points": (Prompt(0, points=((20, 30, 1), (90, 5, 0))), [(20, 30), (90, 5)], [1, 0], 4),
    # One point makes the model give several masks of the first frame, too.
    "point": (Prompt(0, points=((20, 30, 1),)), [(20, 30)], [1], 4),
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_recent_memory_is_plain_transformers(loaded: LoadedSam2, plain: Any, kind: str) -> None:
    prompt, points, labels, frames = PROMPTS[kind]
    follower = new(loaded, memory="recent")
    session = loaded.session()
    index = session.obj_id_to_idx(7)
    scale = torch.tensor([SIDE / SIZE[0], SIDE / SIZE[1]])
    session.add_point_inputs(
        index,
        0,
        {
            "point_coords": (torch.tensor(points) * scale)[None, None],
            "point_labels": torch.tensor([[labels]], dtype=torch.int32),
        },
    )
    session.obj_with_new_inputs = [7]
    for at in range(frames):
        picture = loaded.picture(pixels(at))
        look = follower.look(at, picture, prompt if at == 0 else None, SIZE)
        wanted = plain(session, frame=picture, frame_idx=at)
        assert (look.logits - wanted.pred_masks).abs().max() == 0.0, at
        assert look.seen.object_score == float(wanted.object_score_logits), at


def test_a_mask_is_taken_as_it_is(loaded: LoadedSam2, plain: Any) -> None:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[20:60, 30:70] = 1
    for memory in ("recent", "samurai"):
        follower = new(loaded, memory=memory)
        look = follower.look(0, loaded.picture(pixels(0)), Prompt(0, mask=mask), SIZE)
        inside = look.logits[0, 0] > 0
        rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
        # Of 16 rows and columns: 20 to 60 of 80, 30 to 70 of 128.
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 4, 8)
        assert look.seen == (1.0, 10.0, None)
        # The masks that it decodes meanwhile, for the pointer, are no motion of the object.
        assert follower.motion.mean is None
    session = loaded.session()
    follower = new(loaded, memory="recent")
    prompt = Prompt(0, mask=mask)
    session.add_mask_inputs(session.obj_id_to_idx(7), 0, prompt.mask_of(SIDE))
    session.obj_with_new_inputs = [7]
    for at in range(5):
        picture = loaded.picture(pixels(at))
        look = follower.look(at, picture, prompt if at == 0 else None, SIZE)
        wanted = plain(session, frame=picture, frame_idx=at)
        assert (look.logits - wanted.pred_masks).abs().max() == 0.0, at


@pytest.fixture(scope="module")
def whole(loaded: LoadedSam2) -> dict[tuple[str, int | None], list[Look]]:
    """What comes of remembering everything, by memory and its length."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Follower, "trim", lambda self, frame: None)
        for memory, most in (("recent", None), ("samurai", None), ("samurai", 3)):
            follower = new(loaded, memory=memory, num_maskmem=most)
            found[memory, most] = look_on(follower, loaded, range(FRAMES))
            assert len(follower._others) == FRAMES - 1
    return found


@pytest.mark.parametrize(
    ("memory", "given"),
    [
        ("recent", {}),
        ("samurai", {}),
        ("samurai", {"num_maskmem": 3}),
        ("samurai", {"offload": True}),
    ],
)
def test_what_is_dropped_is_not_missed(
    loaded: LoadedSam2,
    whole: dict[tuple[str, int | None], list[Look]],
    memory: str,
    given: dict[str, Any],
) -> None:
    follower = new(loaded, memory=memory, **given)
    wanted = whole[memory, given.get("num_maskmem")]
    assert equal(look_on(follower, loaded, range(FRAMES)), wanted)
    assert len(follower._others) < FRAMES - 1


def test_the_gate_has_work(whole: dict[tuple[str, int | None], list[Look]]) -> None:
    # Else the tests here would say nothing of it.
    looks = whole["samurai", None][1:]
    good = [may_remember(look.seen, sam2_config()) for look in looks]
    assert 6 < sum(good) < len(good) - 6
    assert looks[-1].seen.kf_iou is not None
    assert not equal(looks, whole["recent", None][1:])


def test_memory_is_as_long_as_is_configured(
    loaded: LoadedSam2, whole: dict[tuple[str, int | None], list[Look]]
) -> None:
    none = look_on(new(loaded, num_maskmem=1), loaded, range(8))
    assert not equal(none, whole["samurai", 3][:8])
    assert not equal(whole["samurai", 3][:8], whole["samurai", None][:8])
    assert equal(look_on(new(loaded, num_maskmem=7), loaded, range(8)), whole["samurai", None][:8])


def test_a_follower_is_alone_in_the_world(loaded: LoadedSam2) -> None:
    cache = loaded.feature_cache()
    config = sam2_config()
    boxes = [BOX, (50.0, 20.0, 90.0, 70.0), (30.0, 5.0, 60.0, 30.0)]
    together = [Follower(loaded, config, cache) for _ in boxes]
    found: list[list[Look]] = [[] for _ in boxes]
    for at in range(6):
        picture = loaded.picture(pixels(at))
        for number, (follower, box) in enumerate(zip(together, boxes, strict=True)):
            prompt = Prompt(0, box) if at == 0 else None
            found[number].append(follower.look(at, picture, prompt, SIZE))
    for looks, box in zip(found, boxes, strict=True):
        assert equal(looks, look_on(new(loaded), loaded, range(6), box))


@pytest.fixture
def encodings(loaded: LoadedSam2) -> Iterator[list[int]]:
    """Counts the runs of the picture encoder."""
    runs: list[int] = []
    hook = loaded.model.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    yield runs
    hook.remove()


def test_one_encoder_pass_for_all(loaded: LoadedSam2, encodings: list[int]) -> None:
    cache = loaded.feature_cache()
    followers = [Follower(loaded, sam2_config(), cache) for _ in range(3)]
    for at in range(4):
        picture = loaded.picture(pixels(at))
        for follower in followers:
            follower.look(at, picture, Prompt(0, BOX) if at == 0 else None, SIZE)
    assert len(encodings) == 4


def test_the_threshold_of_presence(loaded: LoadedSam2) -> None:
    # Seen at about 2.4, where the model itself would ask for 0.
    assert look_on(new(loaded), loaded, range(3))[2].logits.max() > 0
    strict = new(loaded, min_object_score=5.0)
    looks = look_on(strict, loaded, range(3))
    assert all(look.logits.max() == -1024 for look in looks)
    assert 2 < looks[2].seen.object_score < 3
    assert strict.motion.mean is None


@pytest.mark.parametrize("memory", ["recent", "samurai"])
def test_a_lost_object_costs_no_growing_work(loaded: LoadedSam2, memory: str) -> None:
    follower = new(loaded, memory=memory)
    look_on(follower, loaded, range(12))
    held: list[int] = []
    read: list[int] = []
    tokens: list[int] = []
    attention = loaded.model.memory_attention
    hook = attention.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(len(kwargs["memory"])), with_kwargs=True
    )
    with blind(loaded):
        for at in range(12, 40):
            follower.look(at, loaded.picture(pixels(at)))
            held.append(sum(len(one) for one in follower._others.values()))
            read.append(len(follower.memories(at + 1)))
    hook.remove()
    settled = slice(16, None)
    assert max(tokens) <= 7 * (SIDE // 16) ** 2 + 2 * 16
    for counts in (held, read, tokens):
        assert len(set(counts[settled])) == 1, counts
    if memory == "samurai":
        # Five good frames from before it was lost, however long ago, and the one before.
        assert sum(at < 12 for at in follower.memories(40)) == 5
