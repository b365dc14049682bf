#!/usr/bin/env python
"""Take a generator over from PyTorch or the tutorial's notebook, or hand one to PyTorch.

python scripts/convert_weights.py --input horse2zebra.pth --output horse2zebra.ckpt
python scripts/convert_weights.py --input g_ab.ckpt --output latest_net_G_A.pth
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import command
from cyclegan_ms.config import Parser, UserError

PYTORCH = (".pth", ".pt", ".safetensors")


@command
def main(argv=None):
    parser = Parser(prog="convert_weights.py", description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help=".pth, .pt, .safetensors or .ckpt")
    parser.add_argument("--output", required=True, help=".ckpt, or for PyTorch .pth, .safetensors")
    parser.add_argument("--direction", choices=["a2b", "b2a"], help="where the file does not say")
    parser.add_argument("--domains", nargs=2, metavar=("A", "B"), help="names of the domains")
    parser.add_argument("--blocks", type=int, help="uses of a shared block (the tutorial: 9)")
    args = parser.parse_args(argv)
    output = Path(args.output)
    if output.exists():
        raise UserError(f"{output} exists already; nothing is overwritten")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    if args.blocks is not None and args.blocks < 1:
        raise UserError(f"--blocks must be at least 1, not {args.blocks}")
    if output.suffix not in (".ckpt", *PYTORCH):
        raise UserError(f"--output {output}: the ending must be .ckpt or one of {PYTORCH}")

    from cyclegan_ms import interop
    from cyclegan_ms.checkpoint import save_generator

    if output.suffix in PYTORCH:
        spec = interop.export_pytorch(args.input, output)
        print(f"{output}: {spec.name}, {spec.blocks} blocks, for PyTorch")
        return
    imported = interop.import_generator(args.input, args.direction, args.domains, args.blocks)
    save_generator(imported.generator, imported.spec, output)
    print(f"{args.input}: {imported.found}")
    print(f"{output}: --direction {imported.spec.direction} or {imported.spec.name}")


if __name__ == "__main__":
    sys.exit(main())
