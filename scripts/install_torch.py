"""Install PyTorch: from what pip is set up with where that holds the pinned CPU wheel, else from the given index.

`python scripts/install_torch.py torch==2.13.0 https://download.pytorch.org/whl/cpu`
"""

import os
import subprocess
import sys

requirement, index = sys.argv[1:]
pip = [sys.executable, "-m", "pip", "install", "--quiet", requirement]
# A folder of wheels was set up on purpose (an offline machine, CI): it comes first.
if os.environ.get("PIP_FIND_LINKS") and subprocess.run(pip, check=False).returncode == 0:
    sys.exit(0)
if index and subprocess.run([*pip, "--index-url", index], check=False).returncode == 0:
    sys.exit(0)
sys.exit(subprocess.run(pip, check=False).returncode)
