#!/usr/bin/env bash
# Run by the release system in the unpacked shell package.
set -euo pipefail
cd "$(dirname "$0")"
az login --identity --output none
exec python3 import_images.py
