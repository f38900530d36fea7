"""Postpone the execution of packages that libraries import at their start and rarely use.

Lightning imports ``torchmetrics``, and with it SciPy, matplotlib and torchvision. torch's
optimizers import the compiler, ``torch._dynamo``, in their first step. A training needs neither
before its first score or page, and they take more than half of the CPU time until its first
iteration (``make bench-start``).

``postpone_imports`` lets the imports of these packages succeed without executing them. The few
names that torch and Lightning use at the start are answered without the package. Any other
attribute and any other submodule execute the package, so nothing is missing, only later. Only the
command line calls it: as a library, the lab does not change how its user's process imports.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from threading import RLock
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    # importlib.abc imports tempfile and others, which a command that prints its help does without
    Loader = object

Answers = Mapping[str, Callable[["PostponedModule"], Any]]


class PostponedModule(ModuleType):
    """A module whose code is executed at the first use of an attribute without an answer."""

    def __getattr__(self, name: str) -> Any:
        state = _get_loader(self)
        # a second thread waits until the module is executed
        with state.lock:
            if name in self.__dict__:
                return self.__dict__[name]
            if not state.is_executed:
                if name in state.answers:
                    return state.answer(self, name)
                # the import system asks for names such as __path__ and __all__
                if not name.startswith("__"):
                    state.execute(self)
                    return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class PostponedLoader(Loader):
    """Creates a ``PostponedModule`` and executes it on demand.

    Attributes:
        loader: The loader of the module.
        answers: Functions that return an attribute without executing the module, by its name.
        is_executed: Whether the execution of the module has begun.
        is_answering: Whether an answer is being found, which may import submodules.
    """

    def __init__(self, loader: Loader, answers: Answers) -> None:
        self.loader = loader
        self.answers = answers
        self.is_executed = False
        self.is_answering = False
        self.lock = RLock()

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Create the module without executing it."""
        return PostponedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: ``execute`` runs the code of the module later."""

    def answer(self, module: PostponedModule, name: str) -> Any:
        """Return an attribute of a module that is not executed."""
        self.is_answering = True
        try:
            value = self.answers[name](module)
        finally:
            self.is_answering = False
        module.__dict__[name] = value
        return value

    def execute(self, module: ModuleType) -> None:
        """Execute the module, whose own attributes replace the answers."""
        with self.lock:
            if self.is_executed:
                return
            self.is_executed = True
            for name in self.answers:
                module.__dict__.pop(name, None)
            try:
                self.loader.exec_module(module)
            except BaseException:
                self.is_executed = False
                raise


class LoadedLoader(Loader):
    """Returns a submodule that the execution of its package has already imported."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec instead of executing the module again."""
        module.__spec__ = self.spec


class PostponedFinder:
    """Finds the postponed modules, and executes a package before its submodules are imported."""

    def __init__(self, answers: Mapping[str, Answers]) -> None:
        self.answers = answers

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a postponed module; None leaves the module to the other finders."""
        package = sys.modules.get(fullname.rpartition(".")[0])
        if isinstance(package, PostponedModule):
            state = _get_loader(package)
            if not state.is_executed and not state.is_answering:
                state.execute(package)
                if fullname in sys.modules:
                    submodule = sys.modules[fullname]
                    # the import system loads a module that it finds here by the module's own spec
                    submodule.__spec__ = spec_from_loader(fullname, LoadedLoader(submodule))
                    return submodule.__spec__
        if fullname not in self.answers:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        spec.loader = PostponedLoader(spec.loader, self.answers[fullname])
        return spec


def _get_loader(module: PostponedModule) -> PostponedLoader:
    assert module.__spec__ is not None
    assert isinstance(module.__spec__.loader, PostponedLoader)
    return module.__spec__.loader


def _read_version(module: PostponedModule) -> str:
    """Return the version of a package without executing it."""
    # imported here, because it takes longer than the rest of this module
    from importlib.metadata import version

    return version(module.__name__)


def _import_attribute(module: PostponedModule, submodule: str, name: str) -> Any:
    """Return an attribute of a submodule, without executing the package."""
    # first, as the package does: it and ``metric`` import each other
    importlib.import_module(f"{module.__name__}.utilities")
    return getattr(importlib.import_module(f"{module.__name__}.{submodule}"), name)


def _call_later(module: PostponedModule, name: str) -> Callable[..., Any]:
    """Return a function that executes the module when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        _get_loader(module).execute(module)
        return getattr(module, name)(*args, **kwargs)

    return call


def _skip_graph_break(module: PostponedModule) -> Callable[[], None]:
    """Return ``torch._dynamo.graph_break``, which does nothing outside of a compiled function."""
    return lambda: None


def _disable_later(module: PostponedModule) -> Callable[..., Any]:
    """Return ``torch._dynamo.disable``, which changes nothing before a function is compiled.

    torch keeps the disabled function forever, so it is disabled once the compiler is executed.
    """

    def disable(fn: Any = None, *args: Any, **kwargs: Any) -> Any:
        # decorators with arguments, modules and classes are of users, not of torch's start
        if not isinstance(fn, FunctionType):
            _get_loader(module).execute(module)
            return module.__dict__["disable"](fn, *args, **kwargs)
        disabled: Callable[..., Any] | None = None

        @wraps(fn)
        def call(*call_args: Any, **call_kwargs: Any) -> Any:
            nonlocal disabled
            if (
                disabled is None
                and _get_loader(module).is_executed
                and "disable" in module.__dict__
            ):
                disabled = module.__dict__["disable"](fn, *args, **kwargs)
            return (disabled or fn)(*call_args, **call_kwargs)

        return call

    return disable


def _make_placeholder(module: PostponedModule) -> type:
    """Return a class for ``isinstance``: no module is an OptimizedModule before one is compiled."""

    class Meta(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            real = (
                module.__dict__.get("OptimizedModule") if _get_loader(module).is_executed else None
            )
            return real is not None and isinstance(instance, real)

    return Meta("OptimizedModule", (), {})


class _DefaultUtils:
    """``torch._dynamo.utils`` for DistributedDataParallel, which asks for the default of a setting.

    Changing ``torch._dynamo.config.optimize_ddp`` executes the compiler.
    """

    def __init__(self, module: PostponedModule) -> None:
        self.module = module

    def get_optimize_ddp_mode(self) -> str:
        """Return the mode of ``optimize_ddp=True``."""
        return "ddp_optimizer"

    def __getattr__(self, name: str) -> Any:
        _get_loader(self.module).execute(self.module)
        return getattr(self.module.__dict__["utils"], name)


POSTPONED: dict[str, Answers] = {
    "torchmetrics": {
        "__version__": _read_version,
        "_logger": lambda module: logging.getLogger("torchmetrics"),
        "Metric": partial(_import_attribute, submodule="metric", name="Metric"),
        "MetricCollection": partial(
            _import_attribute, submodule="collections", name="MetricCollection"
        ),
    },
    # imports matplotlib
    "torchmetrics.utilities.plot": {
        "_AX_TYPE": lambda module: object,
        "_PLOT_OUT_TYPE": lambda module: object,
        "plot_single_or_multi_val": partial(_call_later, name="plot_single_or_multi_val"),
    },
    # imports triton for Lightning's table of layers, which a training does not print
    "torch.utils.flop_counter": {"FlopCounterMode": partial(_call_later, name="FlopCounterMode")},
    # SciPy imports all of NumPy with ``*``, and this compiler of Fortran programs with it
    "numpy.f2py": {},
    "torch._dynamo": {
        "OptimizedModule": _make_placeholder,
        "disable": _disable_later,
        "graph_break": _skip_graph_break,
        "utils": _DefaultUtils,
    },
}


def postpone_imports() -> None:
    """Postpone the packages of ``POSTPONED`` that this process has not imported yet."""
    if not any(isinstance(finder, PostponedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, PostponedFinder(POSTPONED))
