from collector.attribution.window import Window


def test_sums_are_of_the_last_span() -> None:
    window = Window(60)
    window.add(10, 1, 100)
    window.add(50, 2, 200)
    assert window.sums(50) == (3, 300)
    assert window.sums(70) == (2, 200)
    assert window.sums(110) is None


def test_nothing_is_not_zero() -> None:
    assert Window(60).sums(0) is None


def test_what_was_ahead_is_forgotten_when_the_clock_is_set_back() -> None:
    window = Window(60)
    window.add(10_000, 5)
    assert window.sums(100) is None
    window.add(110, 1)
    assert window.sums(110) == (1,)
