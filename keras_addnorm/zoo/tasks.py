"""The tasks a checkpoint can be loaded for."""

from keras_addnorm import models

# By the name that `from_hugging_face(task=...)` takes: the name of the class in `models`.
TASKS = {
    "embed": "TextEmbedder",
    "classify": "TextClassifier",
    "classify_tokens": "TokenClassifier",
    "answer": "QuestionAnswering",
    "fill_mask": "MaskedLM",
    "classify_images": "ImageClassifier",
}


def task_class(task):
    """The class of a task, a key of `TASKS`."""
    return getattr(models, TASKS[task])


def task_of(model):
    """The key in `TASKS` of a model's class, None for an encoder or any other model."""
    for task, name in TASKS.items():
        if type(model).__name__ == name and isinstance(model, task_class(task)):
            return task
    return None
