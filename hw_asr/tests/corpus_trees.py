"""Small corpora laid out as the real ones are, with noise for speech."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile


def noise(path: Path, seconds: float = 0.5, rate: int = 16000, **options: str) -> Path:
    """Write a recording; the extension says which kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate))
    soundfile.write(path, samples, rate, **options)
    return path


def librispeech(root: Path, part: str, num_chapters: int = 3, per_chapter: int = 4) -> Path:
    """`root/LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac`, as the archives hold it."""
    for chapter in range(num_chapters):
        speaker = 100 + chapter % 2
        directory = root / "LibriSpeech" / part / str(speaker) / str(2000 + chapter)
        lines = []
        for number in range(per_chapter):
            name = f"{speaker}-{2000 + chapter}-{number:04}"
            noise(directory / f"{name}.flac", 0.25 * (1 + number))
            lines.append(f"{name} IT'S UTTERANCE NUMBER {'ABCDEFGH'[number]}\n")
        (directory / f"{speaker}-{2000 + chapter}.trans.txt").write_text("".join(lines))
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text("; speakers\n")
    return root / "LibriSpeech"


def ljspeech(directory: Path, number: int = 20) -> Path:
    """`metadata.csv` and `wavs/`."""
    rows = []
    for index in range(number):
        noise(directory / "wavs" / f"LJ001-{index:04}.wav", rate=22050)
        rows.append(f'LJ001-{index:04}|In "{index}", the Dr. said|In "number", the Doctor said\n')
    (directory / "metadata.csv").write_text("".join(rows), encoding="utf-8")
    return directory


def common_voice(directory: Path, language: str = "en", number: int = 5) -> Path:
    """`LANGUAGE/{train,dev,test}.tsv` and `LANGUAGE/clips/*.mp3`."""
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment\n"
    for split in ("train", "dev", "test"):
        rows = []
        for index in range(number):
            name = f"common_voice_{language}_{split}{index}.mp3"
            noise(directory / language / "clips" / name, rate=48000)
            rows.append(f'c{index % 2}\t{name}\tx\t"Quoted", he said {split}.\t2\t0\t\t\t\t{language}\t\n')
        (directory / language / f"{split}.tsv").write_text(header + "".join(rows), encoding="utf-8")
    return directory


def fsdd(directory: Path, speakers: tuple[str, ...] = ("ann", "bob"), per_digit: int = 8) -> Path:
    """`recordings/DIGIT_SPEAKER_INDEX.wav`."""
    for speaker in speakers:
        for digit in (0, 7):
            for index in range(per_digit):
                noise(directory / "recordings" / f"{digit}_{speaker}_{index}.wav", 0.2, 8000)
    (directory / "README.md").write_text("digits\n")
    return directory


def an4(directory: Path) -> Path:
    """`etc/an4_{train,test}.transcription` and `wav/an4*_clstk/SPEAKER/*.sph`."""
    texts = {
        "train": ["<s> YES </s> (an1-fash-b)", "<s> GO </s> (cen2-fash-b)", "<s> RUBOUT G M </s> (an3-mjwl-b)"],
        "test": ["TWO SIX FOUR (an4-fcaw-b)", "HELP (cen5-fcaw-b)"],
    }
    for split, folder in (("train", "an4_clstk"), ("test", "an4test_clstk")):
        for line in texts[split]:
            name = line.split("(")[1][:-1]
            noise(directory / "wav" / folder / name.split("-")[1] / f"{name}.sph", format="NIST", subtype="PCM_16")
        (directory / "etc").mkdir(exist_ok=True)
        (directory / "etc" / f"an4_{split}.transcription").write_text("\n".join(texts[split]) + "\n")
    return directory


def archived(directory: Path, path: Path) -> Path:
    """Pack a directory, under its own name, into a tar.gz, tar.bz2 or zip."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in sorted(directory.rglob("*")):
                archive.write(member, member.relative_to(directory.parent))
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}") as packed:
            packed.add(directory, directory.name)
    return path
