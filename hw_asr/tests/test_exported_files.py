"""Exported models from strangers: nothing in a file runs, reads another file or ends in a traceback."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from hw_asr.exported.errors import ExportedModelError
from hw_asr.exported.export import make_model
from hw_asr.exported.runtime import OnnxWaveformModel, read_exported
from hw_asr.runtime.memory import MemoryExhaustedError
from hw_asr.tests.exported_case import deepspeech2, make_config, random_network


class HostileFilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = Path(folder.name) / "model.onnx"
        config = make_config(deepspeech2())
        network = random_network(config)
        cls.text_encoder = network.text_encoder
        cls.proto = make_model(network, config)

    def read(self, content: bytes) -> OnnxWaveformModel:
        self.path.write_bytes(content)
        return OnnxWaveformModel(read_exported(self.path), self.text_encoder, 1)

    def changed(self) -> ModelProto:
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        return proto

    def test_what_reaches_outside_or_repeats_is_refused(self) -> None:
        secret = self.path.parent / "secret"
        secret.write_bytes(bytes(4000))
        external = self.changed()
        tensor = external.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(secret))
        own_domain = self.changed()
        own_domain.graph.node[0].domain = "com.microsoft"
        other_operator = self.changed()
        other_operator.graph.node[0].op_type = "ConstantOfShape"
        nested = self.changed()
        nested.graph.node.append(helper.make_node("Add", ["x"], ["y"], body=helper.make_graph([], "inner", [], [])))
        in_attribute = self.changed()
        in_attribute.graph.node.append(
            helper.make_node("Add", ["x"], ["y"], value=numpy_helper.from_array(np.zeros(3)))
        )
        function = self.changed()
        function.functions.add(name="f", domain="g")
        operators = self.changed()
        operators.opset_import.add(domain="ai.onnx.ml", version=3)
        for name, proto, pattern in (
            ("external", external, "'tensor' has the field 1[34].*data in another file"),
            ("domain", own_domain, "uses the operator"),
            ("operator", other_operator, "uses the operator 'ConstantOfShape'"),
            ("subgraph", nested, "'attribute' has the field 6"),
            ("tensor attribute", in_attribute, "'attribute' has the field 5"),
            ("function", function, "'model' has the field 25"),
            ("operator set", operators, "outside of ONNX's standard set"),
        ):
            with self.subTest(name), self.assertRaisesRegex(ExportedModelError, f"model.onnx: .*{pattern}"):
                self.read(proto.SerializeToString())

    def test_files_of_other_programs(self) -> None:
        other = helper.make_model(helper.make_graph([], "g", [], []))
        contents = (b"", b"\x00" * 100, b"PK\x03\x04 not a model", other.SerializeToString(), b'{"text": 1}')
        for content in contents:
            with self.assertRaisesRegex(ExportedModelError, "model.onnx: "):
                self.read(content)
        with self.assertRaisesRegex(ExportedModelError, "more than 300000 fields"):
            self.read(b"\x12\x00" * 1_000_000)

    def test_damaged_files_give_one_line(self) -> None:
        content = self.proto.SerializeToString()
        random = np.random.default_rng(0)
        end = content.index(b"weight_")  # names and structure come first, then weights
        samples = [np.zeros(1000, np.float32)]
        for attempt in range(150):
            damaged = bytearray(content)
            if attempt % 3 == 0:
                del damaged[int(random.integers(len(damaged))) :]
            for place in random.integers(0, end if attempt % 2 else len(damaged) - 1, 3):
                damaged[min(int(place), len(damaged) - 1)] = int(random.integers(256))
            try:
                self.read(bytes(damaged)).batch(samples)
            except (ExportedModelError, MemoryExhaustedError) as error:
                self.assertEqual(str(error), " ".join(str(error).split()))

    def test_a_graph_that_returns_something_else(self) -> None:
        samples = np.zeros(20_000, np.float32)
        for name, value in (("alphabet", ["^", "a"]), ("hop_length", 7), ("n_feats", 3), ("stride", 3)):
            proto = self.changed()
            next(entry for entry in proto.metadata_props if entry.key == name).value = json.dumps(value)
            model = self.read(proto.SerializeToString())
            with self.subTest(name), self.assertRaisesRegex(ExportedModelError, "its graph returns float32 of shape"):
                model.batch([samples])
                list(model.long(samples, 13.0, None))

    def test_metadata_out_of_range(self) -> None:
        for name, value in (("sample_rate", 2**31), ("stride", 0), ("n_fft", 1.5), ("causal", 1), ("config", [])):
            proto = self.changed()
            next(entry for entry in proto.metadata_props if entry.key == name).value = json.dumps(value)
            with self.assertRaisesRegex(ExportedModelError, f"model.onnx: its metadata has an invalid '{name}'"):
                self.read(proto.SerializeToString())


if __name__ == "__main__":
    unittest.main()
