"""A Linux of its own for tests of kernel features that this machine lacks, or that need another init system.

``python -m tests.vm.machine FOLDER`` makes a root file system of Debian (mmdebstrap), adds the package and the tests,
and boots it with Debian's kernel in qemu, whose software emulation needs no rights and no KVM. Everything lies in an
initramfs: there is no disk and no network. Inside, ``inside.py`` runs the tests; its exit status is ours.

The root file system stays in FOLDER for the next time; remove it to have it made anew.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap", "bsdtar": "libarchive-tools"}
SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv,dbus-user-session,libpam-systemd,python3,python3-platformdirs,python3-psutil,python3-pytest"
)
KERNEL = "linux-image-cloud-amd64"
# The kernel of the package, without what it would bring: it names the one that holds the file.
GET_KERNEL = (
    f"cd /tmp && apt-get -q download $(apt-cache depends {KERNEL} | sed -n 's/.*Depends: //p') > /dev/null && "
    "dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x -O --wildcards './boot/vmlinuz-*' > /vmlinuz && rm *.deb"
)
LEFT_OUT = ("doc", "man", "locale", "info", "zoneinfo")  # of /usr/share
PROJECT = Path("opt/project")  # in the machine
UNIT = f"""
[Unit]
After=multi-user.target systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /{PROJECT}/tests/vm/inside.py
ExecStopPost=/bin/systemctl poweroff --force --force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
SAYS_STATUS = "The tests in the machine ended with status "
HANG_GUARD_SECS = 1500.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the machine is made")
    parser.add_argument("tests", nargs="*", help="arguments for pytest; those of inside.py where there are none")
    arguments = parser.parse_args()
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        print(f"The virtual machine needs: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    root, kernel = folder / "root.cpio", folder / "vmlinuz"
    if not (root.exists() and kernel.exists()):
        make_root(root, kernel)
    initramfs = folder / "initramfs.cpio"
    with initramfs.open("wb") as file:
        for part in (root, make_project(folder, arguments.tests)):  # the kernel takes one archive after the other
            file.write(part.read_bytes())
    return boot(kernel, initramfs)


def make_root(root: Path, kernel: Path) -> None:
    from tests.daemon import mirror

    tar = root.with_suffix(".tar")
    hooks = [
        GET_KERNEL,
        "useradd --create-home user",
        "mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/user",
    ]
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=apt",
            f"--include={PACKAGES}",
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
            *(f'--customize-hook=chroot "$1" sh -ec "{_quoted(hook)}"' for hook in hooks),
            SUITE,
            str(tar),
            mirror(),
        ],
        check=True,
    )
    with kernel.open("wb") as file:
        subprocess.run(["bsdtar", "-xOf", str(tar), "./vmlinuz"], stdout=file, check=True)
    subprocess.run(["bsdtar", "--format=newc", "--exclude=./vmlinuz", "-cf", str(root), f"@{tar}"], check=True)
    tar.unlink()


def _quoted(command: str) -> str:
    return command.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")


def make_project(folder: Path, tests: list[str]) -> Path:
    """What goes over the root file system: the checkout, and the service that runs the tests in it."""
    over, archive = folder / "project", folder / "project.cpio"
    shutil.rmtree(over, ignore_errors=True)
    project, units = over / PROJECT, over / "etc/systemd/system"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("isolated_magic", "tests"):
        shutil.copytree(CHECKOUT / name, project / name, ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", project)
    (project / "arguments").write_text("\n".join(tests))
    (units / "default.target.wants").mkdir(parents=True)
    (units / "tests.service").write_text(UNIT)
    (units / "default.target.wants/tests.service").symlink_to("../tests.service")
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")  # it would wait for udev, which is not there
    (over / "init").symlink_to("/lib/systemd/systemd")
    command = ["bsdtar", "--format=newc", "--uid=0", "--gid=0", "-C", str(over), "-cf", str(archive), "."]
    subprocess.run(command, check=True)
    return archive


def boot(kernel: Path, initramfs: Path) -> int:
    """Run the machine until it powers off; the exit status of the tests, which it says in its last words."""
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max"]
    command += ["-smp", str(os.cpu_count() or 1), "-m", "3G", "-nographic", "-no-reboot", "-nic", "none"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs)]
    command += ["-append", "console=ttyS0 loglevel=1 panic=-1 systemd.show_status=false systemd.log_level=err"]
    status = 1
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as qemu:
        guard = threading.Timer(HANG_GUARD_SECS, qemu.kill)
        guard.daemon = True
        guard.start()
        for line in qemu.stdout or ():
            print(line.rstrip(), flush=True)
            _, found, rest = line.partition(SAYS_STATUS)
            if found and rest.strip().isdecimal():
                status = int(rest)
        guard.cancel()
    return status


if __name__ == "__main__":
    sys.exit(main())
