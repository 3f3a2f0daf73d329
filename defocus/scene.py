from dataclasses import dataclass, field
@dataclass
class SceneConfig:
    photographs: list[int] = field(default_factory=lambda: [2, 8])
class SceneGenerator: ...
