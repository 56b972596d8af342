"""The reader of checkpoints can do nothing but read: hostile archives and pickles end in one line."""

from __future__ import annotations

import collections
import io
import os
import stat
import struct
import tarfile
import tempfile
import time
import unittest
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.weights import load_weights
from hw_asr.commands.average import average_checkpoints
from hw_asr.tests import pickle_assembler as made
from hw_asr.tests.training_case import TrainingCase, differences, run_dir

FLOATS = {"0": struct.pack("<4f", 1, 2, 3, 4)}


class ReaderCase(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "m.pth"

    def assert_refused(self, words: str = "") -> None:
        start = time.process_time()
        with self.assertRaisesRegex(CheckpointError, words) as caught:
            load_checkpoint(self.path)
        message = str(caught.exception)
        self.assertTrue(message.startswith(str(self.path)))
        self.assertNotIn("\n", message)
        self.assertLess(len(message), len(str(self.path)) + 400)
        self.assertLess(time.process_time() - start, 20)


class ArchiveTest(ReaderCase):
    def test_a_torchscript_archive_is_refused(self) -> None:
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(self.path))
        self.assert_refused("contains code")

    def test_a_tar_with_an_archive_at_its_end_is_not_extracted(self) -> None:
        victim = self.folder / "victim"
        victim.write_text("secret")
        victim.chmod(0o600)
        for kind, target in ((tarfile.LNKTYPE, str(victim)), (tarfile.FIFOTYPE, ""), (tarfile.SYMTYPE, str(victim))):
            member = tarfile.TarInfo("storages")
            member.type, member.linkname, member.mode = kind, target, 0o4777
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                archive.addfile(member)
            with zipfile.ZipFile(content, "a") as zipped:
                zipped.writestr("x", "y")
            self.path.write_bytes(content.getvalue())
            self.assert_refused("does not begin like a zip archive")
        self.assertEqual(0o600, stat.S_IMODE(victim.stat().st_mode))

    def test_legacy_files_and_bare_pickles_are_refused(self) -> None:
        torch.save({"state_dict": {}}, self.path, _use_new_zipfile_serialization=False)
        self.assert_refused("does not begin like a zip archive")

    def test_compressed_members_are_refused(self) -> None:
        made.write(self.path, made.mapping({"state_dict": made.EMPTY_DICT}), method=zipfile.ZIP_DEFLATED)
        self.assert_refused("compressed")

    def test_members_that_share_bytes_are_refused(self) -> None:
        made.write(self.path, made.mapping({"state_dict": made.EMPTY_DICT}), {"0": bytes(100_000)})
        data = bytearray(self.path.read_bytes())
        with zipfile.ZipFile(self.path) as archive:
            start, end = archive.start_dir, data.rindex(b"PK\x05\x06")
        entries = data[start:end]
        last = entries.rindex(b"PK\x01\x02")
        copies = b""
        for index in range(50):
            entry = bytearray(entries[last:])
            entry[-1:] = bytes([ord("A") + index])
            copies += bytes(entry)
        tail = bytearray(data[end:])
        struct.pack_into("<HH", tail, 8, 53, 53)
        struct.pack_into("<I", tail, 12, len(entries) + len(copies))
        self.path.write_bytes(bytes(data[:end]) + copies + bytes(tail))
        self.assert_refused("larger than the file|differ")

    def test_names_twice_or_outside(self) -> None:
        for names, words in ((("a/data.pkl", "b/data.pkl"), "2 members"), (("a/data.pkl", "x"), "outside a/")):
            with zipfile.ZipFile(self.path, "w") as archive:
                for member in names:
                    archive.writestr(member, b"")
            self.assert_refused(words)
        with mock.patch("warnings.warn"), zipfile.ZipFile(self.path, "w") as archive:
            for _ in range(2):
                archive.writestr("a/data.pkl", b"")
        self.assert_refused("2 members|the same name")

    def test_what_is_not_a_regular_file(self) -> None:
        os.mkfifo(self.path)
        self.assert_refused("not a regular file")
        self.path.unlink()
        self.path.mkdir()
        self.assert_refused("Is a directory|not a regular file")

    def test_big_endian(self) -> None:
        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}.")
            archive.writestr("a/byteorder", "big")
        self.assert_refused("big-endian")


class PickleTest(ReaderCase):
    def refuse(self, value: bytes, words: str = "", storages: dict[str, bytes] | None = None) -> None:
        made.write(self.path, made.mapping({"x": value, "state_dict": made.EMPTY_DICT}), storages)
        self.assert_refused(words)

    def test_structures_that_would_hang_or_crash(self) -> None:
        number = 400_000
        for name, value, words in (
            ("deep list", b"]" * number + b"a" * (number - 1), "deeper"),
            ("deep tuple", b")" + b"\x85" * number, "deeper"),
            ("deep tuple as a key", b"})" + b"\x85" * number + b"Ns", "a key is a tuple"),
            ("a list in itself", b"]q\x01h\x01a", "circular reference"),
            ("a dict in itself", b"}q\x01X\x01\x00\x00\x00ah\x01s", "circular reference"),
            ("a deep config of an object", made.name("a", "b") + b")\x81" + b"}" + made.text("_config")
             + b"}" * 1 + (made.text("k") + b"}") * 3000 + b"s" * 3000 + b"sb", "deeper"),
        ):  # fmt: skip
            with self.subTest(name):
                self.refuse(value, words)

    def test_shared_parts_are_counted_with_repetition(self) -> None:
        body = b"]q\x00Na"
        for level in range(40):
            body += b"q" + bytes([level])
            body += b"]" + (b"h" + bytes([level]) + b"a") * 2
        self.refuse(b"(" + body + b"t", "counting repeated ones")

    def test_only_opcodes_of_torch_save(self) -> None:
        for opcode, value in {
            "NEWOBJ_EX": made.name("a", "b") + b")}\x92", "INST": b"(ia\nb\n", "OBJ": b"(" + made.name("a", "b") + b"o",
            "STACK_GLOBAL": made.text("os") + made.text("system") + b"\x93", "EXT1": b"\x82\x01", "DUP": b"N2",
            "LONG": b"L1L\n", "FROZENSET": b"(\x91", "READONLY_BUFFER": b"N\x98", "INT": b"I1\n",
        }.items():  # fmt: skip
            with self.subTest(opcode):
                self.refuse(value, opcode)

    def test_a_memo_index_costs_no_memory(self) -> None:
        made.write(self.path, made.mapping({"state_dict": b"}r" + struct.pack("<I", 2**31)}))
        self.assertEqual({}, load_checkpoint(self.path)["state_dict"])

    def test_real_classes_are_out_of_reach(self) -> None:
        before = dict(vars(collections.Counter)), dict(vars(torch._utils._rebuild_tensor_v2))
        for module, attribute in (("collections", "Counter"), ("torch._utils", "_rebuild_tensor_v2")):
            slots = made.items(made.NONE, made.mapping({"planted": made.NONE, "__defaults__": made.EMPTY_TUPLE}))
            self.refuse(made.name(module, attribute) + slots + made.BUILD, "attributes are set")
        self.assertEqual(before, (dict(vars(collections.Counter)), dict(vars(torch._utils._rebuild_tensor_v2))))

    def test_calls_are_records(self) -> None:
        witness = self.folder / "witness"
        call = made.name("os", "system") + made.items(made.text(f"touch {witness}")) + made.REDUCE
        state = made.mapping({"items": call})
        dressed = made.name("collections", "OrderedDict") + b")R" + state + made.BUILD
        made.write(self.path, made.mapping({"a": call, "b": dressed, "state_dict": made.EMPTY_DICT}))
        self.assertEqual({"a": None, "b": {}, "state_dict": {}}, load_checkpoint(self.path))
        self.assertFalse(witness.exists())

    def test_stacks_that_are_damaged(self) -> None:
        for body in (b"", b"a", b"s", b"u", b"t", b"R", b"b", b"Q", b"(", b"h\x07", b"NNR", b"Nb", b"NNa", b"N(NNu"):
            with self.subTest(body):
                self.path.unlink(missing_ok=True)
                made.write(self.path, body)
                self.assert_refused()


class TensorTest(ReaderCase):
    def state(self, weight: bytes, storages: dict[str, bytes] | None = None) -> None:
        made.write(self.path, made.mapping({"state_dict": made.mapping({"w": weight})}), storages or FLOATS)

    def test_views_share_their_storage(self) -> None:
        shared = made.storage("0", 4)
        tensors = made.mapping({"a": made.tensor(shared, 0, (2, 2), (2, 1)), "b": made.tensor(shared, 1, (2,), (2,))})
        made.write(self.path, made.mapping({"state_dict": tensors}), FLOATS)
        state = load_checkpoint(self.path)["state_dict"]
        self.assertEqual(([[1, 2], [3, 4]], [2, 4]), (state["a"].tolist(), state["b"].tolist()))
        state["a"][0, 1] = 7
        self.assertEqual(7, state["b"][0])

    def test_tensors_stay_inside_their_data(self) -> None:
        for offset, size, stride in (
            (0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (0, (10**12,), (0,)), (-1, (1,), (1,)),
            (0, (-1,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (2**62, (1,), (1,)), (0, (2**61, 2**61), (0, 0)),
            (0, (2**70,), (1,)),
        ):  # fmt: skip
            with self.subTest(offset=offset, size=size, stride=stride):
                self.state(made.tensor(made.storage("0", 4), offset, size, stride))
                self.assert_refused("larger than its data|impossible size")

    def test_storages_that_lie(self) -> None:
        for made_storage, words in (
            (made.storage("0", 3), "16 bytes, expected 3"), (made.storage("1", 4), "no data"),
            (made.storage("0", 4, "ComplexFloatStorage"), "ComplexFloatStorage"),
            (made.storage("../byteorder", 1), "no data"),
            (made.storage("0", 2, "QInt8Storage"), "QInt8Storage"), (made.items(made.text("x")) + b"Q", "without desc"),
        ):  # fmt: skip
            self.state(made.tensor(made_storage, 0, (2,), (1,)))
            self.assert_refused(words)
        twice = made.mapping({key: made.tensor(made.storage("0", count, kind), 0, (1,), (1,))
                              for key, count, kind in (("a", 4, "FloatStorage"), ("b", 4, "IntStorage"))})  # fmt: skip
        made.write(self.path, made.mapping({"state_dict": twice}), FLOATS)
        self.assert_refused("two types")

    def test_weights_that_are_not_dense_and_real(self) -> None:
        quantized = torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)
        for weight in (torch.zeros(2, dtype=torch.complex64), torch.eye(2).to_sparse(), quantized,
                       5, None, [1.0], {"a": torch.ones(1)}, torch.zeros(2, device="meta")):  # fmt: skip
            with self.subTest(str(weight)):
                torch.save({"state_dict": {"w": weight}}, self.path)
                self.assert_refused("not a dense tensor|not supported|w")

    def test_wrong_state_dicts(self) -> None:
        for state_dict in (None, 5, [torch.ones(1)], {5: torch.ones(1)}, "state", (torch.ones(1),)):
            with self.subTest(state_dict):
                torch.save({"state_dict": state_dict}, self.path)
                self.assert_refused()
        for content in ([], None, {"weights": {}}, torch.ones(2)):
            torch.save(content, self.path)
            self.assert_refused("no `state_dict`")
        model = torch.nn.Linear(1, 1)
        with self.assertRaisesRegex(CheckpointError, "not a dense tensor"):
            load_weights(model, {"weight": torch.ones(1, 1), "bias": None}, self.path)

    def test_averaging_refuses_them_too(self) -> None:
        torch.save({"state_dict": {"w": torch.zeros(2, dtype=torch.complex64)}}, self.path)
        with self.assertRaises(CheckpointError):
            average_checkpoints([self.path, self.path], self.folder / "a.pth")

    def test_every_real_type_comes_back(self) -> None:
        types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
                 torch.int8, torch.uint8, torch.bool)  # fmt: skip
        state = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype).T for dtype in types}
        state |= {
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(2.5),
            "parameter": torch.nn.Parameter(torch.ones(2)),
        }
        torch.save({"state_dict": state}, self.path)
        loaded = load_checkpoint(self.path)["state_dict"]
        for name, value in state.items():
            self.assertTrue(torch.equal(value, loaded[name]) and value.dtype == loaded[name].dtype, name)


class OwnCheckpointTest(TrainingCase):
    def test_the_reader_of_torch_for_weights_only_reads_the_same(self) -> None:
        config = {
            **self.config(epochs=1, len_epoch=2, ema_decay=0.9),
            "lr_scheduler": {"type": "MultiStepLR", "args": {"milestones": [3, 3, 9]}},
        }
        place = self.place(config)
        self.train(place, "-c", "config.json")
        path = run_dir(place) / "last.pth"
        expected: dict[str, Any] = torch.load(path, weights_only=True)
        self.assertEqual([], differences(expected, load_checkpoint(path)))


if __name__ == "__main__":
    unittest.main()
