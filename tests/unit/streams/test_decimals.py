"""Decimal text to integers: exact, or refused with the text named."""

from __future__ import annotations

from decimal import Decimal
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.venues import decimals
from streams.venues.decimals import VALUE_MAX, Scale, TooFine, common_step, together
from tapeline.errors import FrameError

UNITS = st.integers(0, 10**17)  # of 1e-8


def printed(units: int, places: int = 8) -> str:
    """``units`` of 1e-8 with at least as many decimals as it takes."""
    whole, fraction = divmod(units, 10**8)
    digits = f"{fraction:08d}"
    kept = max(places, len(digits.rstrip("0")))
    return f"{whole}.{digits[:kept]}" if kept else str(whole)


@given(units=UNITS, exponent=st.integers(-8, 0), places=st.integers(0, 8))
def test_a_text_is_read_exactly_or_called_too_fine(units: int, exponent: int, places: int) -> None:
    """However many zeros it is printed with; twice, as the second reading is remembered."""
    text, scale = printed(units, places), Scale("size", 0, exponent)
    exact = Decimal(text).scaleb(-exponent)
    for _ in range(2):
        if exact == int(exact):
            assert scale[text] == int(exact)
        else:
            with pytest.raises(TooFine) as caught:
                scale[text]
            finer = scale.finer(caught.value.exponent)
            assert Decimal(finer[text]).scaleb(finer.exponent) == Decimal(text)
            assert finer[text] % 10  # and no finer than it must be


@given(st.lists(UNITS, min_size=1, max_size=6), st.integers(-8, 0))
def test_texts_read_together_share_an_exponent_and_lose_nothing(
    units: list[int], exponent: int
) -> None:
    texts = [printed(u) for u in units]
    values, shared = together(Scale("size", 0, exponent), texts)
    assert [Decimal(v).scaleb(shared) for v in values] == [Decimal(t) for t in texts]
    assert shared <= exponent


NO_NUMBERS = [
    "-1.00000000", "-0.5", "+1.00000000", "NaN", "Infinity", "1e5", "", ".", "5.", ".5",
    ".50000000", " 1.00000000", "1_0.00000000", "1 0.00000000", "1.0.00000000", "0x10",
    "٣.00000000", "1.٣", "²", "1,5", "9" * 41, "1." + "0" * 5_000, "1.0000000x",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_plain_decimal_number_is_refused_by_name(text: str) -> None:
    for exponent in (0, -2, -8):
        with pytest.raises(FrameError) as caught:
            Scale("price", 0, exponent)[text]
        assert repr(text[:40]) in str(caught.value)
        assert "price" in str(caught.value)


def test_a_zero_price_is_refused_and_a_zero_size_is_not() -> None:
    """Size 0 removes a level."""
    assert Scale("size", 0, -5)["0.00000000"] == 0
    for text in ("0.00000000", "0", "0.0"):
        with pytest.raises(FrameError, match=f"price '{text}' is out of range"):
            Scale("price", 1, -5)[text]


def test_a_value_beyond_62_bits_is_refused() -> None:
    assert Scale("size", 0)[str(VALUE_MAX)] == VALUE_MAX
    with pytest.raises(FrameError, match="out of range"):
        Scale("size", 0)[str(VALUE_MAX + 1)]


def test_more_decimals_than_the_venue_prints_are_refused() -> None:
    """One such size would leave no room in 62 bits for the others."""
    with pytest.raises(FrameError, match="over 8 decimals"):
        Scale("size", 0, -8)["0.000000001"]
    assert Scale("size", 0, -8)["0.0000000100000"] == 1


def test_what_a_scale_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decimals, "CACHE_ENTRIES", 10)
    scale = Scale("size", 0)
    for n in range(1_000):
        assert scale[str(n)] == n
        assert len(scale) <= 10


def test_a_finer_scale_is_a_new_one_and_a_coarser_is_not_made() -> None:
    scale = Scale("price", 1, -2)
    assert scale.finer(-2) is scale
    assert scale.finer(0) is scale
    assert scale.finer(-4).exponent == -4
    assert scale.finer(-4).least == 1


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=20), st.integers(0, 8))
def test_the_common_step_divides_everything_and_nothing_larger_does(
    units: list[int], places: int
) -> None:
    step, exponent = common_step({printed(u * 10 ** (8 - places)) for u in units}, "price")
    whole = gcd(*(u * 10 ** (8 - places) for u in units))
    assert step * 10 ** (exponent + 8) == whole
    assert step % 10 or exponent == 0  # in the coarsest units that hold it


def test_zeros_say_nothing_of_the_step() -> None:
    assert common_step({"0.00000000", "0.02500000", "0.05000000"}, "size") == (25, -3)
    assert common_step({"0.00000000"}, "size") == (1, -8)
    assert common_step(set(), "size") == (1, -8)


@given(units=st.integers(0, 2**62), exponent=st.integers(-12, 0), places=st.integers(0, 12))
def test_a_venue_may_print_more_decimals_than_most(units: int, exponent: int, places: int) -> None:
    """The limit goes with the scale, also to a finer one, and the usual eight stay right."""
    value = Decimal(units // 10 ** (12 - places)).scaleb(-places)
    text, scale = f"{value:f}", Scale("price", 0, exponent, decimals_max=12)
    (read,), shared = together(scale, (text,))
    assert Decimal(read).scaleb(shared) == value
    assert scale.finer(-12).decimals_max == 12


def test_a_limit_of_its_own_is_kept_by_inference_too() -> None:
    fine = {"0.0000000123", "0.0000000124"}
    assert common_step(fine, "price", decimals_max=10) == (1, -10)
    with pytest.raises(FrameError, match="over 8 decimals"):
        common_step(fine, "price")
    with pytest.raises(FrameError, match="over 10 decimals"):
        Scale("price", 1, decimals_max=10)["0.00000000001"]


@given(st.lists(UNITS, max_size=6), st.integers(-8, 0), st.integers(0, 8), st.integers(0, 1))
def test_many_at_once_are_read_as_one_by_one(
    units: list[int], exponent: int, places: int, least: int
) -> None:
    texts = [printed(u, places) for u in units]
    assert _outcome(Scale("size", least, exponent), texts, at_once=True) == _outcome(
        Scale("size", least, exponent), texts, at_once=False
    )


@pytest.mark.parametrize("text", [*NO_NUMBERS, "0", "0.00", str(VALUE_MAX + 1), "5", "1.50"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_among_many_what_is_wrong_is_refused_as_if_alone(text: str, place: int) -> None:
    texts = ["1.25", "2"]
    texts.insert(place, text)
    for exponent in (0, -2, -8):
        outcomes = [_outcome(Scale("price", 1, exponent), texts, at_once=b) for b in (True, False)]
        assert outcomes[0] == outcomes[1]


def _outcome(scale: Scale, texts: list[str], *, at_once: bool) -> object:
    try:
        return scale.many(texts) if at_once else [scale[text] for text in texts]
    except (FrameError, TooFine) as error:
        return type(error), str(error)
