"""Settings of Hugging Face's image processors, by name: (class of transformers, arguments).

The sizes are such that all versions of Pillow resize the width of `IMAGE_SHAPE` first.
"""

IMAGE_SHAPE = (20, 33, 3)
PROCESSORS = {
    "vit": ("ViTImageProcessorPil", {"size": {"height": 12, "width": 10}}),
    "vit_enlarged": (
        "ViTImageProcessorPil",
        {"size": {"height": 30, "width": 40}, "resample": 1, "do_normalize": False},
    ),
    "vit_pixels": (
        "ViTImageProcessorPil",
        {"size": {"height": 8, "width": 8}, "do_rescale": False, "image_mean": [120, 130.5, 99]},
    ),
    "deit": (
        "DeiTImageProcessorPil",
        {
            "size": {"height": 14, "width": 18},
            "crop_size": {"height": 9, "width": 12},
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        },
    ),
    "deit_uncropped": (
        "DeiTImageProcessorPil",
        {"size": {"height": 14, "width": 18}, "do_center_crop": False, "rescale_factor": 1 / 127},
    ),
    "bit": (
        "BitImageProcessorPil",
        {"size": {"shortest_edge": 16}, "crop_size": {"height": 13, "width": 14}},
    ),
}
