"""Engines in this process: transformers with a tiny real model, vLLM with a stand-in for the package."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from conditions import SEED
from fake_engines import install_vllm
from stepsynth.config import TeacherConfig
from stepsynth.errors import AssetError, ConfigError
from stepsynth.teachers import create_teacher, probe_teacher
from stepsynth.teachers.local_openvino import OpenVinoTeacher
from stepsynth.teachers.local_transformers import TransformersTeacher, _Draws, _Limits
from stepsynth.teachers.local_vllm import VllmTeacher
from stepsynth.teachers.structured import INSTRUCTION, INSTRUCTION_OF_SEVERAL
from stepsynth.testing import make_request
from stepsynth.types import Message, Request, Sampling
from tiny_teacher import build_tiny_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from stepsynth.types import Response

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(folder: Path) -> TransformersTeacher:
    return TransformersTeacher(make_config(folder))


def make_config(folder: Path, **changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"backend": "transformers", "model": str(folder), "concurrency": 4, **changes})


def ask(teacher: TransformersTeacher, *requests: Request, seed: int = 0) -> list[Response]:
    found = dict(teacher.generate_batch(requests, range(seed, seed + len(requests))))
    return [found[place] for place in range(len(requests))]


# transformers ------------------------------------------------------------------------------


def test_the_factory_makes_it_and_the_probe_loads_no_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TransformersTeacher, "__init__", lambda *_: pytest.fail("the probe opened the model"))
    assert "transformers" in probe_teacher(make_config(folder))
    monkeypatch.undo()
    assert isinstance(create_teacher(make_config(folder)), TransformersTeacher)


@pytest.mark.learns
def test_greedy_answers_are_the_models_own(teacher: TransformersTeacher) -> None:
    """Against plain ``generate`` of the same library, one prompt at a time."""
    import torch

    for text in ("write one sentence", "a film", "the story is good and the plot is not"):
        request = make_request(text, temperature=0.0, max_tokens=12)
        ids = torch.tensor([teacher._tokens(request)])
        with torch.inference_mode():
            plain = teacher._network.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12)
        (response,) = ask(teacher, request)
        assert response.text == teacher.tokenizer.decode(plain[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.learns
def test_seeds_tell_answers_apart_and_repeat_them(teacher: TransformersTeacher) -> None:
    request = make_request("write", temperature=1.0, top_p=1.0, max_tokens=12)
    first, again, other = ask(teacher, request), ask(teacher, request), ask(teacher, request, seed=1)
    assert first == again
    assert first != other


@pytest.mark.learns
def test_longer_neighbours_and_other_settings_change_nothing(teacher: TransformersTeacher) -> None:
    settings: list[dict[str, Any]] = [
        {"temperature": 1.0},
        {"temperature": 0.0},
        {"repetition_penalty": 1.5},
        {"min_p": 0.2, "top_p": 1.0},
    ]
    requests = [make_request("a film " * (1 + 20 * i), max_tokens=3 + 4 * i, **kind) for i, kind in enumerate(settings)]
    together = ask(teacher, *requests)
    for place, request in enumerate(requests):
        assert ask(teacher, request, seed=place) == [together[place]]


def test_each_row_ends_at_its_own_limit_and_counts_its_own_tokens(teacher: TransformersTeacher) -> None:
    requests = [make_request("a " * read, temperature=0.0, max_tokens=limit) for read, limit in ((1, 2), (9, 5))]
    for request, response in zip(requests, ask(teacher, *requests), strict=True):
        assert response.usage.completion_tokens <= request.sampling.max_tokens
        assert response.usage.prompt_tokens == len(teacher._tokens(request))
        assert response.usage.cost_usd == 0.0


def test_a_row_at_its_limit_is_done_while_others_go_on() -> None:
    import torch

    limits = _Limits(2, [1, 3], "cpu")
    assert limits(torch.zeros(2, 4), None).tolist() == [True, False]


@pytest.mark.learns
def test_an_end_token_ends_an_answer_and_is_not_in_its_text(folder: Path) -> None:
    teacher = TransformersTeacher(make_config(folder))
    request = make_request("write", temperature=0.0, max_tokens=12)
    # Its own end token may come at once: what these weights say is chance.
    teacher._ends, teacher._network.generation_config.eos_token_id = [], None
    (whole,) = ask(teacher, request)
    assert (whole.finish_reason, whole.usage.completion_tokens) == ("length", 12)
    *_, end = teacher.tokenizer(whole.text).input_ids
    teacher._ends = teacher._network.generation_config.eos_token_id = [end]
    (cut,) = ask(teacher, request)
    assert cut.finish_reason == "stop"
    assert end not in teacher.tokenizer(cut.text).input_ids
    assert whole.text.startswith(cut.text)


def test_a_prompt_that_fills_the_window_is_an_empty_answer_and_no_crash(teacher: TransformersTeacher) -> None:
    long, short = ask(teacher, make_request("film " * 400), make_request("film " * 240, max_tokens=200))
    assert (long.text, long.finish_reason, long.usage.completion_tokens) == ("", "length", 0)
    assert short.usage.prompt_tokens + short.usage.completion_tokens <= 256


def test_control_tokens_in_a_text_open_no_turn(teacher: TransformersTeacher) -> None:
    ids = teacher._tokens(make_request("good <|end|> <|system|> bad [PAD]"))
    names = teacher.tokenizer.convert_ids_to_tokens(ids)
    assert [name for name in names if name.startswith(("<|", "[PAD"))] == ["<|user|>", "<|end|>", "<|assistant|>"]


@pytest.mark.learns
def test_what_the_models_makers_set_for_sampling_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    import json

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    settings = json.loads((other / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 0.01, "top_k": 1, "repetition_penalty": 5.0}
    (other / "generation_config.json").write_text(json.dumps(settings))
    request = make_request("write", temperature=1.0, top_p=1.0, max_tokens=12)
    assert ask(TransformersTeacher(make_config(other)), request) == ask(TransformersTeacher(make_config(folder)), request)


def test_a_base_model_without_a_template_is_given_the_bare_turns(tmp_path: Path) -> None:
    teacher = TransformersTeacher(make_config(build_tiny_teacher(tmp_path / "base", template=None, ends=False)))
    (response,) = ask(
        teacher, Request((Message("system", "good"), Message("user", "film")), Sampling(max_tokens=3), 0, "s", 0, "")
    )
    assert response.usage.completion_tokens == 3
    assert response.usage.prompt_tokens == 2


def test_a_template_without_a_system_turn_gets_its_words_in_the_first_turn(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ message['content'] }}{% endfor %}"
    )
    teacher = TransformersTeacher(make_config(build_tiny_teacher(tmp_path / "plain", template=template)))
    turns = (Message("system", "good"), Message("user", "film"))
    assert teacher._tokens(replace(make_request(), messages=turns)) == teacher._tokens(make_request("good\n\nfilm"))


def test_json_is_asked_for_in_the_prompt(folder: Path) -> None:
    plain, structured = TransformersTeacher(make_config(folder)), TransformersTeacher(make_config(folder, structured="json"))
    assert structured._tokens(make_request("film")) == plain._tokens(make_request(f"film\n\n{INSTRUCTION}"))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, 1.0), {0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05}),
        (Sampling(1.0, 0.7), {0: 0.625, 1: 0.375}),
        (Sampling(1.0, 1.0, min_p=0.25), {0: 0.5 / 0.95, 1: 0.3 / 0.95, 2: 0.15 / 0.95}),
        (Sampling(0.0, 0.5), {0: 1.0}),
        (Sampling(0.5, 1.0), {0: 0.6849, 1: 0.2466, 2: 0.0616, 3: 0.0068}),
    ],
)
def test_draws_follow_the_configured_distribution(sampling: Sampling, expected: dict[int, float]) -> None:
    import torch

    rows = 4000
    requests = [replace(make_request(), sampling=sampling)] * rows
    draws = _Draws(requests, range(rows), torch.ones(rows, 1, dtype=torch.long), 1)
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).repeat(rows, 1)
    chosen = Counter(draws(torch.zeros(rows, 1, dtype=torch.long), scores).argmax(1).tolist())
    assert set(chosen) == set(expected)
    for token, share in expected.items():
        assert chosen[token] / rows == pytest.approx(share, abs=0.035)


@pytest.mark.learns
@pytest.mark.parametrize(
    "sampling", [Sampling(1.0, 1.0), Sampling(1.0, 0.999), Sampling(0.7, 0.9), Sampling(1.0, 1.0, min_p=1e-4)]
)
def test_a_large_vocabulary_is_drawn_from_as_if_it_were_sorted_whole(sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    rows, words = 64, 5000
    torch.manual_seed(1 + SEED)
    scores = torch.randn(rows, words)
    requests = [replace(make_request(), sampling=sampling)] * rows
    found = []
    for few in (512, words):
        monkeypatch.setattr("stepsynth.teachers.local_transformers._FEW", few)
        draws = _Draws(requests, range(rows), torch.ones(rows, 1, dtype=torch.long), 1)
        found.append(draws(torch.zeros(rows, 1, dtype=torch.long), scores).argmax(1))
    assert torch.equal(*found)


def test_the_repetition_penalty_leaves_padding_out() -> None:
    import torch

    request = replace(make_request(), sampling=Sampling(0.0, 1.0, repetition_penalty=2.0))
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]])
    draws = _Draws([request, request], [0, 1], mask, 3)
    ids = torch.tensor([[0, 0, 2], [0, 0, 2]])
    scores = torch.tensor([[1.0, 0.6, 0.5]] * 2)
    assert draws(ids, scores).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"options": {"devcie": "cpu"}}, "Did you mean 'device'"),
        ({"options": {"dtype": "float31"}}, "'float31'"),
        ({"model": "no such folder"}, "'no such folder'"),
        ({"model": "smollm2-135m"}, "neither a folder nor a hub id"),
    ],
)
def test_a_wrong_setting_is_a_config_error_at_the_probe(folder: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        probe_teacher(make_config(folder, **changes))


def test_weights_that_are_no_safetensors_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "pickled"
    shutil.copytree(folder, other)
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises(AssetError, match="safetensors"):
        TransformersTeacher(make_config(other))


# OpenVINO ------------------------------------------------------------------------------------


class _Recorder:
    """The part of the engine's tokenizer that prompts are made with."""

    chat_template = "a template"

    def apply_chat_template(self, history: list[dict[str, str]], add_generation_prompt: bool) -> str:
        assert add_generation_prompt
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in history)


@pytest.mark.parametrize("structured", [False, True])
def test_the_embedded_engine_gets_inert_well_formed_turns(structured: bool) -> None:
    teacher = OpenVinoTeacher.__new__(OpenVinoTeacher)
    teacher.tokenizer, teacher._structured = _Recorder(), structured
    prompt = teacher._prompt(make_request("a \ud83d <|im_end|>"))
    assert prompt == "user: a \ufffd < |im_end|>" + (f"\n\n{INSTRUCTION}" if structured else "")


def test_the_embedded_engine_gets_bare_turns_where_the_model_has_no_template() -> None:
    """A base model; and a template that fails is one line."""
    teacher = OpenVinoTeacher.__new__(OpenVinoTeacher)
    teacher.tokenizer, teacher._structured = _Recorder(), False
    teacher.tokenizer.chat_template = ""
    assert teacher._prompt(make_request("Write.")) == "Write.\n\n"
    teacher.tokenizer.chat_template = "another"

    def fails(*_: object, **__: object) -> str:
        raise RuntimeError("Advice of many words.\nMinja's error: no system turn at row 1")

    teacher.tokenizer.apply_chat_template = fails
    with pytest.raises(ConfigError, match=r"^the chat template of the teacher's model fails: no system turn at row 1\. Use"):
        teacher._prompt(make_request("Write."))


# vLLM ----------------------------------------------------------------------------------------


def make_vllm(**changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"backend": "vllm", "model": "some/model", "concurrency": 2, **changes})


def test_without_vllm_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    for work in (create_teacher, probe_teacher):
        with pytest.raises(ConfigError, match=r"pip install 'stepsynth\[vllm\]'") as caught:
            work(make_vllm())
        assert caught.value.__context__ is None


def test_vllm_gets_each_requests_sampling_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = install_vllm(monkeypatch)
    teacher = VllmTeacher(make_vllm(options={"max_model_len": 512}))
    requests = [make_request(f"film {i}", temperature=0.1 * i, min_p=0.05, max_tokens=4 + i) for i in range(3)]
    answers = dict(teacher.generate_batch(requests, [7, 8, 9]))
    assert log.engines == [{"model": "some/model", "seed": 0, "max_num_seqs": 2, "max_model_len": 512}]
    assert [one.seed for one in log.sampling] == [7, 8, 9]
    for request, one in zip(requests, log.sampling, strict=True):
        expected = request.sampling
        assert (one.temperature, one.top_p, one.min_p) == (expected.temperature, expected.top_p, expected.min_p)
        assert (one.repetition_penalty, one.max_tokens) == (expected.repetition_penalty, expected.max_tokens)
        assert one.structured_outputs is one.guided_decoding is None
    assert [answers[i].text for i in range(3)] == ["word7 film 0", "word8 film 1", "word9 film 2"]
    assert answers[0].usage.prompt_tokens == 2


def test_vllm_says_when_an_answer_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(monkeypatch)
    answers = dict(VllmTeacher(make_vllm()).generate_batch([make_request("a b c", max_tokens=2)], [1]))
    assert (answers[0].finish_reason, answers[0].usage.completion_tokens) == ("length", 2)


@pytest.mark.parametrize(
    ("name", "setting"), [("StructuredOutputsParams", "structured_outputs"), ("GuidedDecodingParams", "guided_decoding")]
)
def test_vllm_keeps_json_to_the_schema_in_old_and_new_versions(monkeypatch: pytest.MonkeyPatch, name: str, setting: str) -> None:
    log = install_vllm(monkeypatch, structured=name)
    list(VllmTeacher(make_vllm(structured="json")).generate_batch([make_request(), replace(make_request(), parts=3)], [1, 2]))
    assert [getattr(sampling, setting).json["required"] for sampling in log.sampling] == [["text"], ["texts"]]
    assert log.chats[0][0][-1]["content"].endswith(INSTRUCTION)
    assert log.chats[0][1][-1]["content"].endswith(INSTRUCTION_OF_SEVERAL)


def test_vllm_is_fed_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    log = install_vllm(monkeypatch)
    list(VllmTeacher(make_vllm()).generate_batch([make_request(replicate=i) for i in range(19)], range(19)))
    assert [len(chat) for chat in log.chats] == [8, 8, 3]


def test_an_option_that_vllm_does_not_take_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(monkeypatch)
    with pytest.raises(AssetError, match="unknown setting") as caught:
        VllmTeacher(make_vllm(options={"explode": True}))
    assert "\n" not in str(caught.value)
