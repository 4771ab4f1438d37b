"""`python -m benchmarks [NAME...]`: run the named benchmarks, or all of them, one after another."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run each in a process of its own; give 1 if one could not measure."""
    here = Path(__file__).parent
    known = sorted(path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        sys.exit(f"error: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed = []
    for name in chosen:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"could not measure: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
