"""What is examined of a machine, each as one line; needs only the standard library."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

DISTRIBUTION = "csf-skills"
ROOT = Path(__file__).parents[2]
PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest that are supported
NAME = re.compile(r"[\w.-]+")
TESTED = "tested"  # extra with the versions that the tests run on
TIME = 60.0  # seconds for each try
WRITTEN = 2**26  # bytes that are written to measure the disk
SLOW, LITTLE = 50e6, 5e9  # bytes per second and bytes of free disk, below which it is said

TORCH = "import torch; x = torch.ones(64, 64, requires_grad=True); (x @ x).sum().backward(); print(torch.__version__)"
MUJOCO = "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco/>'); mujoco.mj_step(m, mujoco.MjData(m)); "
MUJOCO += "print(mujoco.__version__)"
CUDA = "import torch; print(torch.version.cuda or ''); x = torch.ones(64, 64, device='cuda'); "
CUDA += (
    "assert (x @ x).sum().item() == 64 ** 3; print(torch.cuda.get_device_name(), torch.cuda.get_device_capability())"
)
RENDER = "from envs import gl; print(gl.renderer())"
DRIVER = Path("/dev/nvidiactl")  # exists where a driver is loaded
CUDA_MEND = "install a PyTorch with CUDA that fits the driver, or update the driver (pytorch.org, Get Started)"


class Line(NamedTuple):
    """What is known of one thing."""

    name: str
    state: Literal["ok", "note", "broken"]  # broken: csf needs it
    found: str
    mend: str = ""


def examine(exp_dir: Path) -> list[Line]:
    """Examine everything; what takes long is tried at the same time."""
    checks: list[Callable[[], Line]] = [python, packages, extras, cpu, threads, torch, mujoco, gpu, rendering]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda check: check(), checks))
    return [*found, disk(exp_dir)]  # alone, since the others would slow it down


def python() -> Line:
    """The interpreter."""
    low, high = PYTHONS
    fits = low <= sys.version_info[:2] <= high
    accepted = "" if fits else f"install Python {'.'.join(map(str, low))} to {'.'.join(map(str, high))}"
    return Line("Python", "ok" if fits else "broken", f"{platform.python_version()} on {platform.platform()}", accepted)


def requirements(extra: str = "") -> Iterator[str]:
    """Yield the requirements of the installed package: those without an extra, or those of one; none if unknown."""
    with suppress(PackageNotFoundError):
        for line in requires(DISTRIBUTION) or []:
            named = re.search(r"""extra == ["']([\w-]+)["']""", line)
            if (named[1] if named else "") == extra:
                yield line


def pins() -> dict[str, str]:
    """Return the versions that the tests run on, from the checkout's requirements.txt or from the installed package."""
    file = ROOT / "requirements.txt"
    lines = file.read_text().splitlines() if file.is_file() else requirements(TESTED)
    found = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines)
    return {each[1]: each[2] for each in found if each}


def installed(name: str) -> str | None:
    """Return the version of a package without its build, such as +cpu; None if it is not installed."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def pip(what: str) -> str:
    """Return the command that installs something for this interpreter, whose environment may not be active."""
    own = shutil.which("pip") == str(Path(sys.executable).with_name("pip"))
    return f"pip install {what}" if own else f"{shlex.quote(sys.executable)} -m pip install {what}"


def packages() -> Line:
    """The versions of packages, compared with those that the tests run on."""
    needed = [NAME.match(line)[0] for line in requirements()]  # type: ignore[index]
    missing = [name for name in needed or pins() if installed(name) is None]
    file = ROOT / "requirements.txt"
    install = pip(f"-r {shlex.quote(os.path.relpath(file))}" if file.is_file() else f"'{DISTRIBUTION}[{TESTED}]'")
    if missing:  # in a checkout that is not installed, it is not known which of those the tests run on are needed
        return Line("packages", "broken" if needed else "note", f"not installed: {', '.join(missing)}", install)
    known = {name: (found, pin) for name, pin in pins().items() if (found := installed(name)) is not None}
    other = [f"{name} {found} (tested: {pin})" for name, (found, pin) in known.items() if found != pin]
    text = f"{len(known) - len(other)} of {len(known)} have the tested version"
    if not other:
        return Line("packages", "ok", text)
    return Line("packages", "note", f"{text}; others: {', '.join(other)}", f"results are only tested with: {install}")


def extras() -> Line:
    """The optional parts, by the packages that they need."""
    has: dict[bool, list[str]] = {True: [], False: []}
    for extra in ("report", "play", "images", "warp", "gym", "sweep", "wandb"):
        if names := [NAME.match(line)[0] for line in requirements(extra)]:  # type: ignore[index]
            has[all(installed(name) is not None for name in names)].append(extra)
    texts = {"installed": has[True], "not installed": has[False]}
    found = "; ".join(f"{text}: {', '.join(names)}" for text, names in texts.items() if names)
    mend = "if needed: " + pip(f"'{DISTRIBUTION}[{has[False][0]}]'") if has[False] else ""
    return Line("extras", "ok", found or "unknown, since the package is not installed", mend)


def cpu() -> Line:
    """The processor, whether it has bfloat16 instructions, and the memory."""
    text = _text("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", text)
    fast = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", text))
    bf16 = "has bfloat16 instructions" if fast else "no bfloat16 instructions: precision=bf16 would be slower"
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f"; {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB of memory"
    return Line("CPU", "ok", f"{name[1] if name else platform.machine()}, {bf16}{memory}")


def threads() -> Line:
    """The number of threads that threads=0 chooses, beside the cores that there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    chosen = int(asked) if asked.isdecimal() and int(asked) else cores
    quota = _quota()
    usable = min(cores, quota) if quota else cores
    limit = f", of which the container may use {quota:g}" if quota and quota < cores else ""
    found = f"{chosen} with threads=0; {cores} usable cores of {os.cpu_count()}{limit}"
    if chosen > usable:
        return Line("threads", "note", found, f"more threads than cores are slower: threads={max(int(usable), 1)}")
    return Line("threads", "ok", found)


def _quota() -> float | None:
    """Return the number of cores that a container may use; None if it is not limited."""
    whole = _text("/sys/fs/cgroup/cpu.max").split()
    if not whole:
        whole = [_text(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    quota, period = whole if len(whole) == 2 else ("", "")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def torch() -> Line:
    """Whether PyTorch computes."""
    done, text = attempt(TORCH)
    return Line(
        "PyTorch", "ok" if done else "broken", text, "" if done else "install it again: pytorch.org, Get Started"
    )


def mujoco() -> Line:
    """Whether MuJoCo simulates."""
    done, text = attempt(MUJOCO)
    tested = pins().get("mujoco")
    package = f"mujoco=={tested}" if tested else "mujoco"
    again = f"install it again: {pip(f'--force-reinstall --no-deps {package}')}"
    return Line("MuJoCo", "ok" if done else "broken", text, "" if done else again)


def gpu() -> Line:
    """The GPU, its driver, and whether PyTorch computes on it."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done, listed = attempt(command=query) if shutil.which(query[0]) else (False, "")
    if not done and not DRIVER.exists():
        return Line("GPU", "ok", f"no NVIDIA GPU{f' ({listed})' if listed else ''}; runs use the CPU")
    name = "; ".join(listed.splitlines()) if done else "an NVIDIA driver, but nvidia-smi does not work"
    done, text = attempt(CUDA)
    cuda, *rest = text.splitlines() if done else ("", text)
    if done:
        return Line("GPU", "ok", f"{name}; computes with CUDA {cuda} as {' '.join(rest)}")
    return Line("GPU", "note", f"{name}; PyTorch cannot use it ({text})", CUDA_MEND)


def rendering() -> Line:
    """Which OpenGL libraries render, each tried, and what images use without MUJOCO_GL."""
    if platform.system() != "Linux":
        done, text = attempt(RENDER)
        return Line("OpenGL", "ok" if done else "note", text)
    names = ("egl", "osmesa")
    found = {name: attempt(RENDER, MUJOCO_GL=name) for name in names}
    works = [text for done, text in found.values() if done]
    fails = [f"{name} cannot render ({text})" for name, (done, text) in found.items() if not done]
    warp = ", and env.renderer=warp renders without OpenGL" if installed("mujoco-warp") else ""
    if works:
        return Line("OpenGL", "ok", "; ".join([*works, *fails]) + warp)
    mend = "apt install libegl1 libopengl0 libgl1-mesa-dri (Debian, Ubuntu); without it there are no images and videos"
    return Line("OpenGL", "note", "; ".join(fails) + warp, mend)


def disk(exp_dir: Path) -> Line:
    """The disk of the runs: whether it can be written and locked, its speed and its free space."""
    place, unlocked = exp_dir.absolute(), ""
    try:
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        with tempfile.TemporaryFile(dir=place) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                unlocked = f", no locks ({error.strerror or error})"
            content, start = os.urandom(min(WRITTEN, free // 2)), time.perf_counter()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            speed = len(content) / (time.perf_counter() - start)
    except OSError as error:
        return Line(
            "disk", "broken", f"{place} cannot be used: {error.strerror or error}", "exp_dir=DIR on another disk"
        )
    found = f"{place}: {speed / 1e6:,.0f} MB/s written, {free / 1e9:,.1f} GB free{unlocked}"
    slow, full = speed < SLOW, free < LITTLE
    mend = (
        "saving is slow; a larger task.save_every saves less often"
        if slow
        else "replay buffers may not fit"
        if full
        else "two processes can write to one run: start each only once"
        if unlocked
        else ""
    )
    return Line("disk", "note" if slow or full or unlocked else "ok", found, mend)


def attempt(program: str = "", command: list[str] | None = None, **environment: str) -> tuple[bool, str]:
    """Run a Python program, or a command, in a process of its own; returns whether it succeeded, and what it said."""
    words = command or [sys.executable, "-c", program]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            words,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {TIME:.0f} seconds"
    except OSError as error:
        return False, str(error.strerror or error)
    if done.returncode == 0:
        return True, done.stdout.strip()
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return False, said[-1][:200] if said else f"exit code {done.returncode}"


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
