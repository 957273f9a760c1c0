"""The corpus and the shipped models: one corpus is made, and all is measured on its files."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.demo.corpus import DemoVideo, make_corpus
from pipeline.demo.evaluate import (
    MODELS,
    displayed_frames,
    embed_images,
    embed_texts,
    evaluate_detector,
    evaluate_search,
)
from pipeline.demo.pattern import read_index
from pipeline.demo.queries import QUERIES
from pipeline.demo.samples import training_sample
from pipeline.demo.score import precision_at_k
from pipeline.demo.train_clip import build_tokenizer, pixels_of
from pipeline.demo.world import CLASSES


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[DemoVideo]:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def test_every_video_holds_the_frames_of_its_world(corpus: list[DemoVideo]) -> None:
    assert len({video.name for video in corpus}) == 6
    for video in corpus:
        frames = list(displayed_frames(video.path))
        assert [read_index(f) for f in frames] == list(range(video.frame_count)), video.name
        off = np.abs(frames[50].astype(int) - video.world.render(50)).mean()
        assert off < 6, video.name


def test_every_video_has_the_times_it_says(corpus: list[DemoVideo]) -> None:
    import av

    for video in corpus:
        with av.open(str(video.path)) as container:
            read = [f.pts * f.time_base for f in container.decode(video=0)]
        assert np.abs(np.array(read, dtype=float) - video.times_s).max() <= 0.0006, video.name


def test_every_query_has_frames_to_find(corpus: list[DemoVideo]) -> None:
    truths = [video.truth(i) for video in corpus for i in range(video.frame_count)]
    for query in QUERIES:
        assert 25 <= sum(query.holds(t) for t in truths) <= len(truths) / 2, query.text


def test_training_samples_repeat_by_number() -> None:
    first, again, other = training_sample(3), training_sample(3), training_sample(4)
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert not np.array_equal(first[0], other[0])


def test_the_models_are_small() -> None:
    def size(*names: str) -> int:
        files = [path for name in names for path in (MODELS / name).rglob("*")]
        return sum(path.stat().st_size for path in files)

    assert 0 < size("detector", "clip") < 8_000_000
    assert 0 < size("detectron2") < 8_000_000


def test_the_detector_says_what_its_classes_are() -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(MODELS / "detector")
    assert [config.id2label[i] for i in range(config.num_labels)] == list(CLASSES)


def test_the_detector_reaches_its_target(corpus: list[DemoVideo]) -> None:
    score = evaluate_detector(MODELS / "detector", corpus, every=4)
    assert len(score.by_class) == 18
    assert score.mean >= 0.90


def test_search_reaches_its_target(corpus: list[DemoVideo]) -> None:
    precisions = evaluate_search(MODELS / "clip", corpus, every=2)
    assert len(precisions) == 30
    assert np.mean(list(precisions.values())) >= 0.90


def test_chance_is_far_below_the_target(corpus: list[DemoVideo]) -> None:
    truths = [video.truth(i) for video in corpus for i in range(0, video.frame_count, 2)]
    scores = np.random.default_rng(0).random(len(truths))
    chance = [precision_at_k(scores, [q.holds(t) for t in truths], 10) for q in QUERIES]
    assert np.mean(chance) < 0.35


def test_each_tower_loads_alone_and_embeds_the_same() -> None:
    import torch
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    image, _ = training_sample(0)
    vision = CLIPVisionModelWithProjection.from_pretrained(MODELS / "clip").eval()
    text = CLIPTextModelWithProjection.from_pretrained(MODELS / "clip").eval()
    ids = build_tokenizer()(["a red circle"], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        seen = vision(pixel_values=pixels_of(image[None])).image_embeds
        read = text(input_ids=ids).text_embeds
    for alone, together in (
        (seen, embed_images(MODELS / "clip", image[None])),
        (read, embed_texts(MODELS / "clip", ["a red circle"])),
    ):
        unit = torch.nn.functional.normalize(alone, dim=1).numpy()
        assert unit == pytest.approx(together, abs=1e-5)


def test_texts_embed_alike_alone_and_padded() -> None:
    texts = ["a red circle", "two blue squares", "a photo of a green triangle", "red"]
    together = embed_texts(MODELS / "clip", texts)
    for text, row in zip(texts, together, strict=True):
        assert embed_texts(MODELS / "clip", [text])[0] == pytest.approx(row, abs=1e-5)
    assert np.abs(together @ together.T - 1)[~np.eye(4, dtype=bool)].min() > 0.01


def test_the_tokenizer_knows_words_and_marks_others() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODELS / "clip")
    ids = tokenizer("Two red  circles")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", "two", "red", "circles", "<eos>"]
    assert tokenizer.unk_token_id in tokenizer("a zebra")["input_ids"]


def test_saved_preprocessing_is_what_the_models_were_trained_with() -> None:
    import json

    detector = json.loads((Path(MODELS) / "detector" / "preprocessor_config.json").read_text())
    assert detector["size"] == {"height": 160, "width": 256}
    assert detector["do_normalize"] is False
    clip = json.loads((Path(MODELS) / "clip" / "preprocessor_config.json").read_text())
    assert clip["size"] == {"height": 96, "width": 96}
    assert clip["do_center_crop"] is False
