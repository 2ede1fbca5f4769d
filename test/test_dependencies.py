"""The dependency rule of the package: who may import whom, and that the runtime needs only what a robot has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "instseg_ros"
FORBIDDEN = {
    "core": {"methods", "training", "synthesis", "evaluation", "nodes", "commands"},
    "clustering": {"methods", "training", "synthesis", "evaluation", "nodes", "commands"},
    "methods": {"training", "synthesis", "evaluation", "nodes", "commands"},
    "synthesis": {"methods", "training", "evaluation", "nodes", "commands"},
    "evaluation": {"training", "nodes", "commands"},
    "training": {"nodes", "commands"},
    "benchmarks": {"nodes", "commands"},
    "bags": {"methods", "training", "synthesis", "evaluation", "nodes", "commands"},
    "nodes": {"training", "synthesis", "commands"},
    "commands": {"nodes"},
}
RUNTIME = ["methods", "clustering", "nodes"]
HEAVY = {"pytorch_lightning", "lightning", "mujoco", "trimesh", "manifold3d", "numba", "torchmetrics", "faster_coco_eval", "matplotlib"}


def imports(path: Path) -> set[str]:
    """Absolute names of every module that a file imports, lazily or not, those under TYPE_CHECKING left out."""
    here = ("instseg_ros", *path.relative_to(PACKAGE).parent.parts)
    names: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            names.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)

    Visitor().visit(ast.parse(path.read_text()))
    return names


def layer(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ("commands" if parts[0] in ("cli.py", "__main__.py") else "core")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers_only_look_down(path):
    names = imports(path)
    used = {name.split(".")[1] for name in names if name.startswith("instseg_ros.")}
    assert not used & FORBIDDEN[layer(path)]
    if layer(path) != "nodes":
        assert not {name.split(".")[0] for name in names} & {"rclpy", "cv_bridge", "message_filters", "sensor_msgs_py", "sensor_msgs"}
    if layer(path) in RUNTIME:
        assert not {name.split(".")[0] for name in names} & HEAVY
    assert "pickle" not in names


def test_segmenting_loads_nothing_that_a_robot_lacks():
    code = (
        "import sys, instseg_ros.methods.clusternet.segmenter, instseg_ros.methods.classical.segmenter\n"
        "import instseg_ros.methods.insegan.segmenter\n"
        f"print(sorted({HEAVY!r} & {{m.split('.')[0] for m in sys.modules}}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_does_not_wait_for_torch():
    code = "import sys\nfrom instseg_ros.cli import main\ntry: main(['-h'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
