"""What sphinx-gallery has to be told about examples/ by functions."""

from pathlib import Path

from sphinx_gallery.scrapers import figure_rst


def quickstart_first(filename):
    """Sort the quickstart before the examples that read the report it saves, and the others by name."""
    return Path(filename).stem != "quickstart", filename


def written_pictures(block, block_vars, gallery_conf):
    """Show the pictures that an example wrote into its folder, or an experiment into its own, and take them away."""
    folder = Path(block_vars["src_file"]).parent
    pictures = sorted([*folder.glob("*.png"), *folder.glob("experiments/*.png")])
    shown = []
    for picture, place in zip(pictures, block_vars["image_path_iterator"], strict=False):
        shown.append(str(picture.replace(place)))
    return figure_rst(shown, gallery_conf["src_dir"])
