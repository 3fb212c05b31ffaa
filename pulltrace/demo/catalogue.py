"""The demo's images, which have realistic sizes, and the registries that serve these images. Sans-I/O."""

from pulltrace.demo.images import Image, Layer, make_image, make_layer
from pulltrace.demo.registries import Manner, Registries

MB = 10**6

SLOW = "registry.berlin.example.org"
"""A registry with a slow connection."""
OWN = "registry.example.com"

MANNERS = {
    "docker.io": Manner(speed=28 * MB, latency=0.25),
    "quay.io": Manner(speed=16 * MB, latency=0.3),
    "ghcr.io": Manner(speed=35 * MB, latency=0.2),
    "registry.k8s.io": Manner(speed=45 * MB, latency=0.15),
    "nvcr.io": Manner(speed=60 * MB, latency=0.3),
    "docker.elastic.co": Manner(speed=22 * MB, latency=0.3),
    OWN: Manner(speed=80 * MB, latency=0.03),
    SLOW: Manner(speed=0.35 * MB, latency=0.9),
}

# Base images that several images share. Each entry contains layer sizes in MB, and may begin with the name of a
# different base image.
BASES = {
    "debian": (28.2,),
    "ubuntu": (29.7,),
    "alpine": (3.6,),
    "busybox": (2.2,),
    "jre": ("ubuntu", 16.4, 53.1, 0.2),
    "python": ("debian", 24.0, 64.4, 211.3, 6.2, 20.1),
    "cuda": ("ubuntu", 4.6, 58.2, 1290.0, 62.5),
    "spring": ("jre", 41.8, 0.9, 3.1),
}

IMAGES: dict[str, tuple[str | float, ...]] = {
    "docker.io/library/nginx:1.29": ("debian", 43.9, 0.1, 0.1, 0.1, 0.1, 0.1),
    "docker.io/library/postgres:18.1": ("debian", 1.2, 4.5, 1.5, 8.1, 1.3, 112.4, 0.1, 0.1),
    "docker.io/library/redis:8.4": ("debian", 0.9, 1.6, 20.6, 0.1),
    "docker.io/library/alpine:3.23": ("alpine",),
    "docker.io/library/rabbitmq:4.2": ("ubuntu", 36.9, 6.8, 31.2, 0.3, 0.1),
    "docker.io/grafana/grafana:12.3": ("alpine", 8.9, 0.3, 75.8, 61.2, 0.1),
    "docker.io/pytorch/pytorch:2.9-cuda13": ("ubuntu", 7.8, 3245.0, 0.1),
    "docker.io/vllm/vllm-openai:v0.12": ("cuda", 310.5, 1880.0, 5240.0, 96.4, 1.2),
    "docker.io/bitnami/kafka:4.1": ("debian", 11.7, 289.3, 0.2),
    "quay.io/prometheus/node-exporter:v1.10": ("busybox", 1.0, 9.6),
    "quay.io/prometheus/prometheus:v3.8": ("busybox", 1.0, 59.4, 52.8, 0.1, 0.1),
    "quay.io/jupyter/scipy-notebook:2026-11": ("ubuntu", 80.9, 0.2, 96.7, 33.4, 212.0, 702.3, 9.8),
    "quay.io/keycloak/keycloak:26.4": (31.6, 98.7, 134.2),
    "ghcr.io/fluxcd/source-controller:v1.7": ("alpine", 0.6, 34.8),
    "ghcr.io/home-lab/media-indexer:2.4": ("python", 12.5, 168.9, 0.4),
    "registry.k8s.io/ingress-nginx/controller:v1.14": ("alpine", 22.1, 4.7, 56.4, 18.3, 0.1, 3.8),
    "registry.k8s.io/coredns/coredns:v1.13": (0.2, 22.6),
    "nvcr.io/nvidia/tritonserver:26.10-py3": ("cuda", 205.1, 1460.0, 988.0, 2210.0, 640.0, 12.3, 1.1),
    "docker.elastic.co/elasticsearch/elasticsearch:9.2": (31.0, 0.1, 612.8, 0.1, 3.2),
    f"{OWN}/data/feature-store:5.1": ("python", 38.2, 402.6, 1.4),
    f"{OWN}/data/etl:118": ("python", 38.2, 95.3, 0.6),
    f"{OWN}/shop/web:2026.47": ("alpine", 18.3, 0.1, 9.4),
    f"{SLOW}/legacy/invoice-printer:3.2": ("debian", 11.3, 24.7, 2.1),
}

SERVICES = ("checkout", "cart", "inventory", "payments", "search", "accounts")
"""Java services whose images differ only in the last layer, which is new in each version."""

_RATIOS = {"docker.io/vllm/vllm-openai:v0.12": 1.9, "nvcr.io/nvidia/tritonserver:26.10-py3": 1.9}


def registries() -> Registries:
    """Return registries that serve all of ``IMAGES``."""
    made = Registries(manners={host: Manner(manner.speed, manner.latency) for host, manner in MANNERS.items()})
    for reference, parts in IMAGES.items():
        made.push(reference, image(reference, *parts, ratio=_RATIOS.get(reference, 2.6)))
    return made


def image(name: str, *parts: str | float, ratio: float = 2.6) -> Image:
    """Make an image. ``parts`` contains the sizes of the layers in MB, and may begin with the name of a base image."""
    return make_image(name, *_layers(name, parts, ratio))


def service(name: str, version: int) -> Image:
    """Make the image for one version of a Java service."""
    return make_image(f"{name} {version}", *_layers("", ("spring",), 2.2), make_layer(f"{name} {version}", 14 * MB))


def _layers(name: str, parts: tuple[str | float, ...], ratio: float) -> list[Layer]:
    layers: list[Layer] = []
    for number, part in enumerate(parts):
        if isinstance(part, str):
            layers += _layers(part, BASES[part], ratio)
        else:
            layers.append(make_layer(f"{name} {number}", int(part * MB), ratio=ratio))
    return layers
