"""Makes Keras know this package's classes without loading Keras for those who do not use it.

`keras.saving.load_model` finds a class only if the module that registers it was imported, so
`import keras_addnorm` is enough to load our `.keras` files. But that import also stands before
`keras_addnorm.text`, which runs where Keras is not wanted or not even installed, and before the
command line's own help, and it costs seconds. So the classes, all in `keras_addnorm.models` and
what it imports, are registered when there is a Keras to register them with: at once where Keras is
loaded already, else by a finder in `sys.meta_path`, which leaves all work to the finders behind it
and only adds that step after the module has run.

The step must wait for what is half-way loaded: where `keras_hub` or `keras_addnorm.layers` is what
loads Keras, `models` cannot be imported before these are complete. So it comes after each of
`ORDER`, unless a later one is under way. The finder stays: taking it out while another thread goes
through `sys.meta_path` would make that thread miss one.
"""

import importlib
import sys
import warnings

LAYERS, MODELS = "keras_addnorm.layers", "keras_addnorm.models"
ORDER = ("keras", "keras_hub", LAYERS, MODELS)


def register_when_keras_is_loaded():
    """Registers the classes now if Keras is loaded, else as soon as it is."""
    if "keras" in sys.modules:
        _register()
    elif _FINDER not in sys.meta_path:  # It is there when this package is reloaded.
        sys.meta_path.insert(0, _FINDER)


def _register():
    try:
        # In the order in which threads that import one of them meet the locks of both.
        importlib.import_module(LAYERS)
        importlib.import_module(MODELS)
    except Exception as error:  # Not ours to break `import keras` by, nor `keras_addnorm.text`.
        warnings.warn(
            "Keras cannot load files with classes of keras_addnorm: importing "
            f"{MODELS} failed: {error}",
            RuntimeWarning,
            stacklevel=2,
        )


class _Finder:
    """Finds what the finders behind it find, and adds the registration."""

    def find_spec(self, name, path=None, target=None):
        if name not in ORDER[:-1]:
            return None
        finders = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    """A module's own loader, which registers the classes after the module has run."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        if name == "_loader":  # While it is copied, before it has one.
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        # Whoever asks the module for its source or its resources finds the loader that has them.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        later = ORDER[ORDER.index(module.__name__) + 1 :]
        if not any(name in sys.modules for name in later):
            _register()


_FINDER = _Finder()
