#!/usr/bin/env python
"""Fetch apple2orange, or pack a folder into MindRecord.

python scripts/prepare_data.py --name apple2orange
python scripts/prepare_data.py --folder my_photos --mindrecord my_photos.mindrecord
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import command
from cyclegan_ms.config import DataConfig, Parser, UserError


@command
def main(argv=None):
    parser = Parser(prog="prepare_data.py", description=__doc__.splitlines()[0])
    parser.add_argument("--name", choices=["apple2orange"], help="data set to download")
    parser.add_argument(
        "--source",
        choices=["authors", "tutorial"],
        default="authors",
        help="authors: 2528 JPEG files, 78 MB; tutorial: one MindRecord file",
    )
    parser.add_argument("--output", help="folder to make (default: data/NAME)")
    parser.add_argument("--folder", help="folder with trainA and trainB to pack")
    parser.add_argument("--mindrecord", help="file to pack it into")
    parser.add_argument("--load_size", type=int, default=286, help="resize, with --folder")
    parser.add_argument("--crop_size", type=int, default=256, help="random crop, with --folder")
    args = parser.parse_args(argv)
    if bool(args.name) == bool(args.folder) or bool(args.folder) != bool(args.mindrecord):
        raise UserError("give either --name apple2orange, or --folder DIR and --mindrecord FILE")

    from cyclegan_ms import prepare

    if args.name:
        source = prepare.SOURCES[args.source]
        output = args.output or f"data/{args.name}"
        root = prepare.prepare_archive(source, output, progress=sys.stderr.isatty())
        print(f"ready: --data.root {root}")
    else:
        config = DataConfig(args.folder, load_size=args.load_size, crop_size=args.crop_size)
        rows = prepare.write_mindrecord(config, args.mindrecord)
        print(f"{rows} pairs packed: --data.root {args.mindrecord}")


if __name__ == "__main__":
    sys.exit(main())
