"""The pod statuses and image events that a kubelet writes to the API server, in the kubelet's own wording. Sans-I/O.

``PodEvents`` simulates the life of one pod. The demo writes the objects to ``apiserver.ApiServer``, and tests also
write them to a real API server. The wording and the order of the events follow pkg/kubelet/images/image_manager.go
(Kubernetes 1.37).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


def pod(
    name: str,
    node: str,
    containers: Mapping[str, str],
    *,
    init: Mapping[str, str] | None = None,
    volumes: Mapping[str, str] | None = None,
    namespace: str = "default",
    owner: tuple[str, str] | None = None,
    at: float | None = None,
) -> Object:
    """Return a pod that is scheduled on a node. ``containers`` and ``init`` map container names to images. ``owner``
    contains the kind and name of the pod's owner.

    ``volumes`` maps the names of image volumes to images. Every app container mounts all image volumes.
    """
    metadata: Object = {"name": name, "namespace": namespace, "uid": _uid(namespace, name)}
    if owner:
        kind, owner_name = owner
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": owner_name, "uid": _uid(kind, owner_name)}
        metadata["ownerReferences"] = [reference | {"controller": True}]
        if kind == "ReplicaSet":
            metadata["labels"] = {"pod-template-hash": owner_name.rpartition("-")[2]}
    spec: Object = {"nodeName": node, "containers": _containers(containers)}
    if init:
        spec["initContainers"] = _containers(init)
    if volumes:
        spec["volumes"] = [{"name": name, "image": {"reference": image}} for name, image in volumes.items()]
        for container in spec["containers"]:
            container["volumeMounts"] = [{"name": name, "mountPath": f"/{name}"} for name in volumes]
    reason = "PodInitializing" if init else "ContainerCreating"
    status: Object = {
        "phase": "Pending",
        "containerStatuses": [_waiting(container, reason) for container in spec["containers"]],
    }
    if init:
        status["initContainerStatuses"] = [_waiting(container, reason) for container in spec["initContainers"]]
    if at is not None:
        metadata["creationTimestamp"] = status["startTime"] = rfc3339(at)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


@dataclass(slots=True)
class PodEvents:
    """A pod and the events that its kubelet writes. ``pod`` is the pod's current state.

    Each method simulates something that happens to the pod, and returns the resulting event, or None if there is none.
    If an event occurs again, the same object is returned with a higher count. ``container`` may also be the name of an
    image volume.
    """

    pod: Object
    _counts: dict[str, tuple[int, float]] = field(default_factory=dict)
    _last_error: dict[str, str] = field(default_factory=dict)
    _restarts: int = 0

    def kubelet_restarts(self) -> None:
        """The kubelet restarts. It forgets its earlier events, so it creates new ones and counts from 1 again."""
        self._restarts += 1

    def pulling(self, container: str, at: float) -> Object:
        """The kubelet requests the image from the runtime, or queues the request."""
        return self._event(container, "Pulling", f'Pulling image "{self._image(container)}"', at)

    def pulled(self, container: str, at: float, *, seconds: float = 1.0, size: int = 0) -> Object:
        """The pull succeeded. Shortly afterwards, ``started`` reports that the container is running."""
        took = f"{seconds:.3f}s ({seconds:.3f}s including waiting)"
        message = f'Successfully pulled image "{self._image(container)}" in {took}. Image size: {size} bytes.'
        return self._event(container, "Pulled", message, at)

    def already_present(self, container: str, at: float) -> Object:
        """The image was already present, so nothing was pulled."""
        message = (
            f'Container image "{self._image(container)}" already present on machine and can be accessed by the pod'
        )
        return self._event(container, "Pulled", message, at)

    def failed(self, container: str, at: float, error: str) -> Object:
        """The runtime returned an error."""
        self._last_error[container] = f"ErrImagePull: {error}"
        self._status(container, {"waiting": {"reason": "ErrImagePull", "message": error}})
        return self._event(container, "Failed", f'Failed to pull image "{self._image(container)}": {error}', at)

    def backing_off(self, container: str, at: float) -> Object:
        """The kubelet synced the pod before the back-off had expired."""
        message = f'Back-off pulling image "{self._image(container)}"'
        repeated = f"{message}: {self._last_error.get(container, '')}"
        self._status(container, {"waiting": {"reason": "ImagePullBackOff", "message": repeated}})
        return self._event(container, "BackOff", message, at)

    def invalid(self, container: str, at: float) -> Object:
        """The image reference is invalid."""
        image = self._image(container)
        error = f'couldn\'t parse image name "{image}": invalid reference format'
        message = f'Failed to apply default image tag "{image}": {error}'
        self._status(container, {"waiting": {"reason": "InvalidImageName", "message": message}})
        return self._event(container, "InspectFailed", message, at)

    def never(self, container: str, at: float) -> Object:
        """The image is missing, and the pull policy is ``Never``."""
        message = f'Container image "{self._image(container)}" is not present with pull policy of Never'
        self._status(container, {"waiting": {"reason": "ErrImageNeverPull", "message": message}})
        return self._event(container, "ErrImageNeverPull", message, at)

    def not_started(self, container: str, at: float) -> Object:
        """The kubelet does not start the container in this sync. The event repeats the reason from the container's
        status.
        """
        status = self.pod["status"]
        every = status.get("initContainerStatuses", []) + status["containerStatuses"]
        reason = next(it["state"]["waiting"]["reason"] for it in every if it["name"] == container)
        return self._event(container, "Failed", f"Error: {reason}", at)

    def started(self, container: str, at: float) -> None:
        """The container is running."""
        self._status(container, {"running": {"startedAt": rfc3339(at)}}, image_id="sha256:" + "0" * 64)
        if all("running" in it["state"] for it in self.pod["status"]["containerStatuses"]):
            self.pod["status"]["phase"] = "Running"

    def _image(self, container: str) -> str:
        spec = self.pod["spec"]
        if container in self._volumes:
            return self._volumes[container]
        every = spec.get("initContainers", []) + spec["containers"]
        return str(next(it["image"] for it in every if it["name"] == container))

    @property
    def _volumes(self) -> dict[str, str]:
        return {it["name"]: it["image"]["reference"] for it in self.pod["spec"].get("volumes", [])}

    def _status(self, container: str, state: Object, image_id: str = "") -> None:
        status = self.pod["status"]
        # An image volume has no status of its own, so every container that mounts the volume is shown as waiting.
        names = [it["name"] for it in self.pod["spec"]["containers"]] if container in self._volumes else [container]
        for entry in status.get("initContainerStatuses", []) + status["containerStatuses"]:
            if entry["name"] in names:
                entry["state"] = state
                entry["imageID"] = image_id
                entry["started"] = entry["ready"] = "running" in state

    def _event(self, container: str, reason: str, message: str, at: float) -> Object:
        meta, spec = self.pod["metadata"], self.pod["spec"]
        digest = hashlib.sha256(f"{self._restarts}/{container}/{reason}/{message}".encode()).hexdigest()[:16]
        count, first = self._counts.get(digest, (0, at))
        self._counts[digest] = (count + 1, first)
        kind = (
            "initContainers" if any(it["name"] == container for it in spec.get("initContainers", [])) else "containers"
        )
        name = f"{meta['name']}.{digest}"
        place = {} if container in self._volumes else {"fieldPath": f"spec.{kind}{{{container}}}"}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta["namespace"], "uid": _uid(meta["namespace"], name)},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            }
            | place,
            "reason": reason,
            "message": message,
            "type": "Normal" if reason in ("Pulling", "Pulled", "BackOff") else "Warning",
            "source": {"component": "kubelet", "host": spec["nodeName"]},
            "reportingComponent": "kubelet",
            "reportingInstance": spec["nodeName"],
            "count": count + 1,
            "firstTimestamp": rfc3339(first),
            "lastTimestamp": rfc3339(at),
            "eventTime": None,
        }


def rfc3339(at: float) -> str:
    """Format a time as metav1.Time does, in whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _containers(containers: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "image": image} for name, image in containers.items()]


def _waiting(container: Object, reason: str) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason}},
    }


def _uid(*parts: str) -> str:
    text = hashlib.sha256("/".join(parts).encode()).hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:32]))
