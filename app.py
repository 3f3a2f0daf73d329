"""A page to fuse photographs in the browser.

    python app.py
    python app.py --host 0.0.0.0 --port 8000 --max-files 10

It serves this machine only, unless --host says otherwise, and fetches nothing from other servers.
The limits are enforced on the server.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from fusion.backends import load_backend
from page.limits import Limits
from page.server import serve
from utils.errors import UserError, cli, option_parser
from utils.interrupts import heed_signals


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="0.0.0.0 for other machines too")
    add("--port", type=int, help="by default the first free one from 7860 on")
    add("--name", action="append", default=[], help="one more host name to answer to; repeatable")
    add("--weights", type=Path, help="safetensors, or ONNX of models.export; default: the shipped")
    add("--device", default="auto", help="cpu, cuda, cuda:N; auto by default")
    for limit in dataclasses.fields(Limits):
        option = f"--max-{limit.name.replace('_', '-')}"
        text = f"{limit.metadata['help']}; {limit.default} by default"
        add(option, dest=limit.name, type=int, default=limit.default, help=text)
    return parser.parse_args(argv)


@cli
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    values = {limit.name: getattr(args, limit.name) for limit in dataclasses.fields(Limits)}
    for name, value in values.items():
        if value < 1:
            raise UserError(f"--max-{name.replace('_', '-')} {value}: at least 1")
    backend = load_backend(args.weights, args.device)
    with serve(backend, Limits(**values), args.host, args.port, args.name) as page:
        print(f"{page.local_url} (Ctrl-C ends it)", flush=True)
        page.block_thread()
    return 0


if __name__ == "__main__":
    with heed_signals():  # with all files removed
        sys.exit(main())
