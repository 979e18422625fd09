"""What a plan says of money: a range, where the price comes from, what is known already, caps that are too low."""

from __future__ import annotations

import datetime
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import stepsynth
from family_worlds import FamilyWorld, build_family_world, lend_student
from loopback import Fault, LoopbackServer
from stepsynth.cli.comparing import compare_methods
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.errors import ConfigError
from stepsynth.journal import Journal
from stepsynth.planning.forecast import forecast, money_warnings, price_as_json
from stepsynth.teachers.prices import Price
from stepsynth.types import Usage
from world import World, build_world

OPENAI = {"backend": "openai", "base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini"}
KNOWN_KEYS = {
    "power",
    *("task", "family", "method", "teacher", "student", "data", "sample", "requests", "tokens", "cost_usd", "minutes"),
    *("price", "cached", "warnings", "server", "labels", "so_far", "trial"),
}


def teacher(**values: Any) -> TeacherConfig:
    return TeacherConfig.model_validate({**OPENAI, **values})


# forecast ------------------------------------------------------------------------------------


def test_the_least_is_the_sample_and_the_most_is_answers_of_full_length() -> None:
    found = forecast((10, 30), [Usage(100, 20)], teacher(price={"input": 1, "output": 10}))
    assert found["requests"] == [10, 30]
    assert found["tokens"] == [10 * 120, 30 * (100 + 64)]
    assert found["cost_usd"] == [pytest.approx(10 * (100 + 200) / 1e6), pytest.approx(30 * (100 + 640) / 1e6)]


def test_several_answers_of_one_request_read_its_prompt_once() -> None:
    one, four = (forecast((10, 30), [Usage(100, 20)], teacher(rows_per_request=n)) for n in (1, 4))
    assert four["requests"] == [3, 30]
    assert four["tokens"] == [3 * 100 + 10 * 20, one["tokens"][1]]
    assert four["cost_usd"][0] < one["cost_usd"][0]
    assert four["cost_usd"][1] == one["cost_usd"][1]


def test_a_batch_api_is_forecast_at_its_share() -> None:
    live, batch = (forecast((10, 30), [Usage(100, 20)], teacher(mode=mode))["cost_usd"] for mode in ("live", "batch"))
    assert batch == [pytest.approx(live[0] / 2), pytest.approx(live[1] / 2)]


def test_no_price_is_an_unknown_cost_and_no_counted_tokens_are_unknown_tokens() -> None:
    local = {"base_url": "http://127.0.0.1:8000/v1"}
    assert forecast((10, 30), [Usage(100, 20)], teacher(**local))["cost_usd"] is None
    uncounted = forecast((10, 30), [Usage(0, 0)], teacher())
    assert (uncounted["tokens"], uncounted["cost_usd"]) == (None, None)


def test_a_cost_that_the_server_told_is_taken_where_no_price_is_known() -> None:
    found = forecast((10, 30), [Usage(100, 28, 0.001)], teacher(base_url="https://openrouter.ai/api/v1"))
    low, high = found["cost_usd"]
    assert low == pytest.approx(0.01)
    assert high > 30 * 0.001


def test_an_engine_in_this_process_costs_nothing() -> None:
    assert forecast((10, 30), [Usage(100, 20)], TeacherConfig(backend="fake"))["cost_usd"] == [0, 0]


# warnings ------------------------------------------------------------------------------------

EXPECTED = {"requests": [100, 300], "tokens": [10_000, 90_000], "cost_usd": [0.5, 2.0]}


@pytest.mark.parametrize(
    ("budget", "ends"),
    [
        ({"requests": 99}, "ends the run early"),
        ({"requests": 100}, "may end the run early"),
        ({"requests": 299}, "may end the run early"),
        ({"tokens": 9_999}, "ends the run early"),
        ({"tokens": 89_999}, "may end the run early"),
        ({"usd": 0.49}, "ends the run early"),
        ({"usd": 1.99}, "may end the run early"),
    ],
)
def test_a_cap_below_the_forecast_is_a_warning_with_both_numbers(budget: dict[str, Any], ends: str) -> None:
    (warning,) = money_warnings(BudgetConfig(**budget), EXPECTED, Price(1, 1))
    ((name, value),) = budget.items()
    assert warning.startswith(f"budget.{name}={value:,} {ends}")


def test_caps_that_are_high_enough_are_no_warning() -> None:
    assert money_warnings(BudgetConfig(requests=300, tokens=90_000, usd=2.0), EXPECTED, Price(1, 1)) == []
    assert money_warnings(BudgetConfig(), EXPECTED, None) == []


def test_a_cap_that_cannot_be_kept_is_a_warning() -> None:
    unknown = {**EXPECTED, "cost_usd": None, "tokens": None}
    money, tokens = (money_warnings(BudgetConfig(**{name: 5}), unknown, None) for name in ("usd", "tokens"))
    assert "no price is known" in money[0]
    assert "set teacher.price" in money[0]
    assert "counts no tokens" in tokens[0]


def test_a_price_of_more_than_a_year_ago_is_said_to_be_old() -> None:
    price = Price(1, 2, date="2025-06-01", source="https://example.org/prices")
    fresh, old = datetime.date(2026, 6, 1), datetime.date(2026, 6, 2)
    assert money_warnings(BudgetConfig(), EXPECTED, price, fresh) == []
    (warning,) = money_warnings(BudgetConfig(), EXPECTED, price, old)
    assert "2025-06-01" in warning
    assert "https://example.org/prices" in warning
    stale = [(price_as_json(price, day) or {})["stale"] for day in (fresh, old)]
    assert stale == [False, True]


# the command ---------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, loopback: LoopbackServer) -> World:
    """A world whose teacher is a server with a price."""
    world = build_world(tmp_path / "world")
    asked = {"backend": "openai", "model": "loopback", "base_url": loopback.base_url, "price": {"input": 3, "output": 15}}
    world.write_config({"teacher": asked, "method.rounds": 0, "method.rationales": 0, "budget.usd": 0.001})
    return world


def planned(capsys: pytest.CaptureFixture[str], world: World, *settings: str) -> dict[str, Any]:
    overrides = [word for setting in settings for word in ("--set", setting)]
    outcome = stepsynth(capsys, "plan", world.config_path, "--json", *overrides)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_a_plan_has_all_its_keys_and_a_price_of_the_config(capsys: pytest.CaptureFixture[str], world: World) -> None:
    found = planned(capsys, world)
    assert set(found) == KNOWN_KEYS
    assert found["price"] == {"input": 3.0, "output": 15.0, "batch": 1.0, "date": None, "source": "config", "stale": False}
    assert 0 < found["cost_usd"][0] < found["cost_usd"][1]
    assert "serves 'loopback'" in found["teacher"]["probe"]
    assert any("budget.usd=0.001 ends the run early" in warning for warning in found["warnings"])


def test_a_plan_does_not_say_that_a_request_will_show_what_its_own_request_has_shown(
    capsys: pytest.CaptureFixture[str], world: World, loopback: LoopbackServer
) -> None:
    loopback.list_fault = Fault.status(200, body={"data": [{"id": "another"}]})
    assert planned(capsys, world)["teacher"]["probe"].endswith("does not list 'loopback'; it answers as 'loopback'.")


def test_the_printed_plan_says_price_range_and_warning(capsys: pytest.CaptureFixture[str], world: World) -> None:
    text = stepsynth(capsys, "plan", world.config_path).out
    assert "price     3 / 15 USD per million tokens read / written (config)" in text
    assert "cost      0.0" in text
    assert "warning   budget.usd=0.001 ends the run early" in text
    assert "sample prompt" in text


def test_a_server_of_ones_own_has_no_price_until_it_is_told(
    capsys: pytest.CaptureFixture[str], world: World, loopback: LoopbackServer
) -> None:
    loopback.answer = lambda _: "a text about something"
    found = planned(capsys, world, "teacher.price=null", "budget.usd=null")
    assert (found["price"], found["cost_usd"]) == (None, None)
    free = planned(capsys, world, "teacher.price={input: 0, output: 0}", "budget.usd=null")
    assert (free["cost_usd"], free["warnings"]) == ([0, 0], [])


def test_a_run_without_its_price_is_refused_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], world: World, loopback: LoopbackServer
) -> None:
    outcome = stepsynth(capsys, "run", world.config_path, "--set", "teacher.price=null", "-q")
    assert outcome.code == 2
    assert "price" in outcome.err
    assert loopback.completions == []


def test_a_plan_counts_what_the_first_wave_would_not_have_to_pay_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, world: World, loopback: LoopbackServer
) -> None:
    settings = ("budget.usd=null", f"cache={tmp_path / 'mine.db'}")
    before = planned(capsys, world, *settings)["cached"]
    assert before == {"path": str(tmp_path / "mine.db"), "requests": 0, "of": 33, "problem": None}
    assert not (tmp_path / "mine.db").exists(), "a plan makes no file"
    assert stepsynth(capsys, "run", world.config_path, "-q", "--set", settings[0], "--set", settings[1]).code == 0
    asked = len(loopback.completions)
    after = planned(capsys, world, *settings)
    assert after["cached"]["requests"] == 33
    assert len(loopback.completions) == asked + 1, "the sample"
    # At one request a second; what is known takes no time.
    slow = planned(capsys, world, *settings, "teacher.requests_per_minute=60")
    assert slow["minutes"] == [round((count - 33) / 60, 1) for count in slow["requests"]]
    fresh = planned(capsys, world, settings[0], f"cache={tmp_path / 'other.db'}", "teacher.requests_per_minute=60")
    assert fresh["minutes"] == [round(count / 60, 1) for count in fresh["requests"]]
    changed = planned(capsys, world, *settings, "teacher.sampling.temperature=0.9")["cached"]
    assert changed["requests"] == 0
    assert planned(capsys, world, "cache=null")["cached"] is None


def test_a_damaged_file_of_answers_does_not_stop_a_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path, world: World) -> None:
    (tmp_path / "mine.db").write_bytes(b"no database" * 500)
    found = planned(capsys, world, f"cache={tmp_path / 'mine.db'}")
    assert "mine.db" in found["cached"]["problem"]


def test_nothing_is_asked_where_there_is_nothing_to_ask(capsys: pytest.CaptureFixture[str], world: World) -> None:
    found = planned(capsys, world, "method.name=gold")
    assert set(found) == KNOWN_KEYS
    assert (found["requests"], found["cost_usd"], found["warnings"]) == ([0, 0], [0.0, 0.0], [])


# comparisons by dollars ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> FamilyWorld:
    """A small world to compare methods in."""
    student = lend_student(tmp_path_factory.mktemp("student") / "tiny")
    return build_family_world(tmp_path_factory.mktemp("families"), "classification", validation=24, test=30, student=student)


@pytest.mark.usefixtures("one_thread")
def test_methods_are_matched_by_dollars_where_a_price_is_known(families: FamilyWorld, tmp_path: Path) -> None:
    """At most one answer more than S3 paid for, though the price of reading and writing differs."""
    config = families.config("teacher.price={input: 1, output: 30}")
    results = compare_methods(config, "zerogen,s3", seeds=1, match="usd", folder=tmp_path / "out", quiet=True)
    paid = {entry["name"]: entry["usd"][0] for entry in results["systems"]}
    with closing(Journal(tmp_path / "out" / "zerogen-0" / "journal.db")) as journal:
        dearest = journal._connection.execute("SELECT MAX(cost_usd) FROM answers").fetchone()[0]
    assert 0 < paid["s3"] <= paid["zerogen"] < paid["s3"] + dearest


@pytest.mark.parametrize(
    ("setting", "methods", "why"),
    [
        ("teacher.backend=fake", "s3", "there is nothing to pay"),
        ("teacher={backend: openai, model: gpt-4o-mini, base_url: 'http://127.0.0.1:1/v1'}", "s3", "none is known"),
        (
            "teacher.price={input: 1, output: 1}",
            "s3,seed-only:teacher.price=null",
            "there is nothing to pay",
        ),
    ],
)
def test_a_comparison_by_dollars_without_a_price_is_refused_before_anything_is_spent(
    setting: str, methods: str, why: str, families: FamilyWorld, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"match=usd needs a price, and {why}") as caught:
        compare_methods(families.config(setting), methods, seeds=1, match="usd", folder=tmp_path / "out", quiet=True)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_cap_in_dollars_that_nobody_can_keep_is_refused_before_the_sample(
    world: World, loopback: LoopbackServer, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(world.config_path.read_text())
    values["teacher"] = {"backend": "openai", "base_url": loopback.base_url, "model": "loopback"}
    values["budget"] = {"usd": 1}
    world.config_path.write_text(yaml.safe_dump(values))
    outcome = stepsynth(capsys, "plan", world.config_path)
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "the price of 'loopback' is unknown" in outcome.err
    assert not loopback.completions
