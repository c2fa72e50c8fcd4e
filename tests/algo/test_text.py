from algo.text import calibration_text, evaluation_text


def _words(text: str) -> set[str]:
    return {" ".join(part.split()) for part in text.split("\n\n") if part.strip()}


def test_both_texts_are_long_english() -> None:
    for text, length in ((evaluation_text(), 60_000), (calibration_text(), 200_000)):
        assert len(text) > length
        assert text.count(" the ") > length / 150


def test_the_texts_share_no_paragraph_and_calibration_repeats_none() -> None:
    calibration = [" ".join(p.split()) for p in calibration_text().split("\n\n")]
    assert len(calibration) == len(set(calibration))
    assert not set(calibration) & _words(evaluation_text())
