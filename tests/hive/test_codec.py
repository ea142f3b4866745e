"""The codec gives back what it was given, in bytes that depend on the value alone, and refuses everything else."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pickle
import subprocess
import sys

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hive.messages.calculation import AgentAnswer, AnswerStatus, CalculationResult, CalculationType, Parameters, Role
from hive.messages.codec import ARRAY, MESSAGE, TUPLE, decode, digest, encode, message, plain
from hive.messages.estimate import Estimate
from hive.messages.reports import CorrelationReport, DayLoss, ValueAtRiskReport

moderately = settings(max_examples=60)

DTYPES = ("<f8", ">f8", "<f4", "<i8", ">i4", "|u1", "|b1", "<U3", "<M8[D]", ">M8[D]")
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
arrays = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), shapes))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
day_losses = st.builds(DayLoss, date=st.text(max_size=5), loss=st.floats())
values = st.recursive(
    scalars | arrays | day_losses,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
numbers = st.integers() | st.floats(allow_infinity=False) | st.sampled_from([np.float32(1.5), np.int64(2), Role.HUB])
jsonable = st.recursive(
    numbers | hnp.arrays(np.dtype("<M8[D]"), 2) | hnp.arrays(np.dtype("<i4"), (2, 2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def alike(given_value, read) -> bool:
    """Equal with types, NaN equal to NaN, arrays by little-endian dtype, shape and content."""
    if isinstance(given_value, np.ndarray):
        if read.dtype != given_value.dtype.newbyteorder("<") or read.shape != given_value.shape:
            return False
        known = given_value == given_value  # false for NaN and NaT
        same = read[known].tobytes() == given_value[known].astype(read.dtype).tobytes()
        return same and bool((read != read)[~known].all())
    if type(given_value) is not type(read):
        return False
    if isinstance(given_value, (list, tuple)):
        return len(given_value) == len(read) and all(map(alike, given_value, read))
    if isinstance(given_value, dict):
        return given_value.keys() == read.keys() and all(alike(given_value[key], read[key]) for key in read)
    if isinstance(given_value, DayLoss):
        return alike([given_value.date, given_value.loss], [read.date, read.loss])
    return given_value == read or (given_value != given_value and read != read)


def extension(code: int, payload: object) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, payload if isinstance(payload, bytes) else msgpack.packb(payload)))


def result() -> CalculationResult:
    tail = Estimate(
        measure="var", value=0.02, unit="fraction", method_label="historical", convention="", samples=10, lower=np.nan
    )
    matrix = np.array([[1.0, np.nan], [np.nan, 1.0]])
    correlation = CorrelationReport(
        symbols=("A", "B"), shrunk=matrix, ewma=matrix, shrinkage=0.1, estimates=(tail,), pairs=(), regime=None
    )
    reports = {
        Role.VALUE_AT_RISK: ValueAtRiskReport(estimates=(tail,) * 20, worst_days=(DayLoss("2020-03-16", 0.12),) * 50),
        Role.CORRELATION: correlation,
    }
    return CalculationResult(
        request_id="r",
        calculation=CalculationType.COMPREHENSIVE,
        portfolio="p",
        currency="USD",
        value=None,
        snapshot_id="s",
        as_of="2022-12-28",
        answers={
            role.value: AgentAnswer(role, role.value, AnswerStatus.OK, report) for role, report in reports.items()
        },
        merged=(tail,),
        completeness=1.0,
        elapsed_ns=1,
        parameters=Parameters(),
    )


@moderately
@given(values)
def test_every_value_comes_back_as_it_went(value):
    data = encode(value)
    read = decode(data)
    assert alike(value, read)
    assert encode(read) == data


@moderately
@given(st.dictionaries(st.text(max_size=4), st.integers(0, 9), min_size=2, max_size=6), st.randoms())
def test_the_order_of_a_dictionary_does_not_reach_the_bytes(mapping, random):
    items = list(mapping.items())
    random.shuffle(items)
    assert encode(dict(items)) == encode(mapping)
    assert digest(dict(items)) == digest(mapping)


@moderately
@given(hnp.arrays(np.dtype("<f8"), hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)))
def test_memory_order_and_byte_order_do_not_reach_the_bytes(array):
    for twin in (np.asfortranarray(array), array.astype(">f8"), array[::-1][::-1], np.repeat(array, 2, axis=1)[:, ::2]):
        assert encode(twin) == encode(array)
    assert encode(array.T) == encode(np.ascontiguousarray(array.T))


def test_different_shapes_types_and_containers_have_different_bytes():
    flat = np.zeros(4)
    distinct = [flat, flat.reshape(2, 2), flat.astype("<f4"), flat.astype("<i8"), [0.0] * 4, (0.0,) * 4]
    assert len({encode(value) for value in distinct}) == len(distinct)


@pytest.mark.parametrize("wrap", [float, np.array], ids=["scalar", "array"])
def test_a_nan_of_either_sign_is_the_same_nan(wrap):
    with np.errstate(invalid="ignore"):
        computed = np.float64(np.inf) - np.float64(np.inf)  # its sign bit is set on x86
    assert encode(wrap(np.nan)) == encode(wrap(computed)) == encode(wrap(-np.nan))


def test_messages_are_equal_and_hash_by_content():
    first, second = result(), result()
    assert first == second
    assert hash(first) == hash(second)
    assert first != dataclasses.replace(first, as_of="2022-12-27")
    assert DayLoss("a", 1.0) != ("a", 1.0)


def test_a_whole_result_comes_back_equal_with_read_only_arrays():
    read = decode(encode(result()))
    assert read == result()
    assert not read.answers["correlation"].report.shrunk.flags.writeable


def test_an_enum_field_comes_back_as_its_enum():
    read = decode(encode(result()))
    assert isinstance(read.calculation, CalculationType)
    assert isinstance(read.answers["correlation"].role, Role)


def test_numpy_scalars_travel_as_plain_numbers():
    assert decode(encode([np.float64(0.5), np.int32(3), np.bool_(True), np.str_("A")])) == [0.5, 3, True, "A"]


@dataclasses.dataclass(frozen=True)
class Stranger:
    number: int = 1


@pytest.mark.parametrize(
    "value",
    [
        Stranger(),
        object(),
        {1, 2},
        1j,
        print,
        Estimate,
        np.array([object()]),
        np.array([{}, []], dtype=object),
        np.array([(1.0, 2)], dtype=[("a", "<f8"), ("b", "<i4")]),  # its field names would be lost
        {"a": 1, 2: "b"},
        2**64,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_codec_does_not_know_is_a_type_error(value):
    with pytest.raises(TypeError):
        encode([value])


def test_two_messages_of_one_name_are_refused():
    with pytest.raises(TypeError, match="DayLoss"):
        message(type("DayLoss", (), {"__annotations__": {"x": int}}))


def test_every_truncation_is_a_value_error():
    data = encode(result())
    for length in (*range(200), *range(200, len(data), 97), len(data) - 1):
        with pytest.raises(ValueError):
            decode(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        extension(MESSAGE, ["Nobody", {}]),
        extension(MESSAGE, ["Stranger", {"number": 1}]),
        extension(MESSAGE, ["DayLoss", {"date": "2020-01-01"}]),
        extension(MESSAGE, ["DayLoss", {"date": "2020-01-01", "loss": 1.0, "more": 1}]),
        extension(MESSAGE, ["DayLoss"]),
        extension(MESSAGE, [["DayLoss"], {}]),
        extension(MESSAGE, 5),
        extension(TUPLE, 5),
        extension(9, b"x"),
        extension(ARRAY, b""),
        extension(ARRAY, msgpack.packb(["<f8", [2]]) + bytes(8)),
        extension(ARRAY, msgpack.packb(["nonsense", [1]]) + bytes(8)),
        extension(ARRAY, msgpack.packb([",f8", [1]]) + bytes(8)),
        extension(ARRAY, msgpack.packb(["<f8,<f8", [1]]) + bytes(16)),
        encode(1) + encode(2),
        b"",
        pickle.dumps(print),
        extension(ARRAY, msgpack.packb(["|O", [1]]) + pickle.dumps([print])),
    ],
    ids=[f"bytes_{number}" for number in range(18)],
)
def test_bytes_of_no_message_are_a_value_error(data):
    with pytest.raises(ValueError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        extension(MESSAGE, ["Position", {"symbol": "A", "weight": float("nan")}]),
        extension(MESSAGE, ["Portfolio", {"positions": [1]}]),
        extension(MESSAGE, ["Parameters", {"seed": -1}]),
    ],
    ids=["nan_weight", "number_for_position", "negative_seed"],
)
def test_bytes_that_a_constructor_refuses_are_a_value_error(data):
    with pytest.raises(ValueError):
        decode(data)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_refused_or_still_a_value_and_nothing_else(changes):
    damaged = bytearray(encode(result()))
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    with contextlib.suppress(ValueError):  # any other error fails the test
        decode(bytes(damaged))


def test_deeply_nested_bytes_are_refused_and_do_not_end_the_process():
    nested = functools.reduce(lambda inner, _: extension(TUPLE, b"\x91" + inner), range(2000), b"\x00")
    program = "import sys; from hive.messages.codec import decode\ntry: decode(sys.stdin.buffer.read())\n"
    done = subprocess.run([sys.executable, "-c", program + "except ValueError: print('refused')"], input=nested,
                          capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"refused\n")


def test_plain_of_a_whole_result_is_json_with_none_for_nan():
    read = json.loads(json.dumps(plain(result()), allow_nan=False))
    assert read["calculation"] == "comprehensive"
    assert read["answers"]["correlation"]["report"]["shrunk"] == [[1.0, None], [None, 1.0]]
    assert read["merged"][0]["lower"] is None


@moderately
@given(jsonable)
def test_plain_of_finite_values_is_json(value):
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


def test_plain_of_infinite_numbers_is_json_too():
    infinite = [float("inf"), -np.inf, np.float32("inf"), np.array([-np.inf])]
    assert json.loads(json.dumps(plain(infinite), allow_nan=False)) == [None, None, None, [None]]


def test_plain_of_an_array_without_dimensions_is_its_number():
    assert plain(np.array(3.0)) == 3.0


def test_plain_turns_dates_into_iso_text():
    assert plain(np.array(["2020-01-02", "NaT"], dtype="datetime64[D]")) == ["2020-01-02", "NaT"]
