"""The Kubernetes types that the definitions in the chart's schema describe, and the fields that these definitions
omit.
"""

CORE, NETWORK, RBAC, META = (
    f"io.k8s.{package}.v1." for package in ("api.core", "api.networking", "api.rbac", "apimachinery.pkg.apis.meta")
)

TYPES = {
    "affinity": CORE + "Affinity",
    "affinity.nodeAffinity": CORE + "NodeAffinity",
    "affinity.podAffinity": CORE + "PodAffinity",
    "affinity.podAntiAffinity": CORE + "PodAntiAffinity",
    "appArmorProfile": CORE + "AppArmorProfile",
    "command": CORE + "ExecAction",
    "container": CORE + "Container",
    "container.ports.*": CORE + "ContainerPort",
    "container.resizePolicy.*": CORE + "ContainerResizePolicy",
    "dnsConfig": CORE + "PodDNSConfig",
    "downwardFiles.*": CORE + "DownwardAPIVolumeFile",
    "egressRules.*": NETWORK + "NetworkPolicyEgressRule",
    "env.*": CORE + "EnvVar",
    "env.*.valueFrom": CORE + "EnvVarSource",
    "envFrom.*": CORE + "EnvFromSource",
    "fieldRef": CORE + "ObjectFieldSelector",
    "grpc": CORE + "GRPCAction",
    "hook": CORE + "LifecycleHandler",
    "hostAliases.*": CORE + "HostAlias",
    "httpGet": CORE + "HTTPGetAction",
    "ingressRules.*": NETWORK + "NetworkPolicyIngressRule",
    "keyRef": CORE + "SecretKeySelector",
    "keysToPaths.*": CORE + "KeyToPath",
    "labelSelector": META + "LabelSelector",
    "labelSelector.matchExpressions.*": META + "LabelSelectorRequirement",
    "lifecycle": CORE + "Lifecycle",
    "networkPeers.*": NETWORK + "NetworkPolicyPeer",
    "networkPeers.*.ipBlock": NETWORK + "IPBlock",
    "networkPorts.*": NETWORK + "NetworkPolicyPort",
    "nodeExpression": CORE + "NodeSelectorRequirement",
    "nodeSelectorTerm": CORE + "NodeSelectorTerm",
    "persistentVolumeClaimSpec": CORE + "PersistentVolumeClaimSpec",
    "podAffinityTerm": CORE + "PodAffinityTerm",
    "podSecurityContext": CORE + "PodSecurityContext",
    "probe": CORE + "Probe",
    "projection": CORE + "VolumeProjection",
    "projection.clusterTrustBundle": CORE + "ClusterTrustBundleProjection",
    "projection.serviceAccountToken": CORE + "ServiceAccountTokenProjection",
    "resourceFieldRef": CORE + "ResourceFieldSelector",
    "resources": CORE + "ResourceRequirements",
    "roleRules.*": RBAC + "PolicyRule",
    "seLinuxOptions": CORE + "SELinuxOptions",
    "seccompProfile": CORE + "SeccompProfile",
    "securityContext": CORE + "SecurityContext",
    "tcpSocket": CORE + "TCPSocketAction",
    "toleration": CORE + "Toleration",
    "topologySpread": CORE + "TopologySpreadConstraint",
    "volumeMounts.*": CORE + "VolumeMount",
    "volumes.*": CORE + "Volume",
    "volumes.*.configMap": CORE + "ConfigMapVolumeSource",
    "volumes.*.csi": CORE + "CSIVolumeSource",
    "volumes.*.downwardAPI": CORE + "DownwardAPIVolumeSource",
    "volumes.*.emptyDir": CORE + "EmptyDirVolumeSource",
    "volumes.*.ephemeral": CORE + "EphemeralVolumeSource",
    "volumes.*.hostPath": CORE + "HostPathVolumeSource",
    "volumes.*.image": CORE + "ImageVolumeSource",
    "volumes.*.nfs": CORE + "NFSVolumeSource",
    "volumes.*.persistentVolumeClaim": CORE + "PersistentVolumeClaimVolumeSource",
    "volumes.*.projected": CORE + "ProjectedVolumeSource",
    "volumes.*.secret": CORE + "SecretVolumeSource",
}
"""The Kubernetes type of each definition, by the definition's path. ``*`` matches any list item."""

OMITTED = {
    CORE + "Container": {"restartPolicyRules", "volumeDevices"},  # a new field, and a field for block devices
    # The following fields are new in Kubernetes and still disabled in most clusters.
    CORE + "ConfigMapVolumeSource": {"defaultUser"},
    CORE + "ClusterTrustBundleProjection": {"user"},
    CORE + "DownwardAPIVolumeFile": {"user"},
    CORE + "DownwardAPIVolumeSource": {"defaultUser"},
    CORE + "EmptyDirVolumeSource": {"mode"},
    CORE + "EnvVarSource": {"fileKeyRef"},
    CORE + "GRPCAction": {"mode"},
    CORE + "HTTPGetAction": {"protocol"},
    CORE + "KeyToPath": {"user"},
    CORE + "ProjectedVolumeSource": {"defaultUser"},
    CORE + "SecretVolumeSource": {"defaultUser"},
    CORE + "ServiceAccountTokenProjection": {"user"},
    CORE + "VolumeMount": {"bindMountOptions"},
    CORE + "VolumeProjection": {"podCertificate"},
    # Fields that are valid only in combination with other pod fields, which the chart does not set.
    CORE + "Lifecycle": {"stopSignal"},
    CORE + "ResourceRequirements": {"claims"},
    CORE + "SecurityContext": {"windowsOptions"},
    # A volume that this chart creates for a pod always starts out empty.
    CORE + "PersistentVolumeClaimSpec": {"dataSource", "dataSourceRef"},
    CORE + "Volume": {
        # These volume types were removed from Kubernetes, or replaced by CSI drivers.
        *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "flocker", "gcePersistentDisk"),
        *("gitRepo", "glusterfs", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO"),
        *("storageos", "vsphereVolume"),
        # These network disks can be used through a persistentVolumeClaim.
        *("fc", "flexVolume", "iscsi"),
    },
}
"""Fields that the API server accepts but the schema rejects."""
