// What the names of cgroup folders say of pods: kubelet with the drivers systemd and cgroupfs, containerd, CRI-O.
//
//   systemd    kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b_....slice/cri-containerd-ID.scope
//   cgroupfs   kubepods/burstable/pod0a1b-.../ID
//
// Pods of QoS class Guaranteed lie directly below kubepods. A kubelet with a cgroupRoot of its own has all this below
// that folder, and with systemd its name in front of every slice ("kubelet-kubepods-burstable.slice").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egress::node {

// The folder that holds all pods of a kubelet.
bool IsKubepodsFolder(std::string_view name);
// The folder of a QoS class in there.
bool IsQosFolder(std::string_view name);

// The UID of the pod whose folder it is, as the API writes it (systemd has `_` for `-`). The UID of a static pod is a
// hash without dashes: kubernetes.io/config.hash of its mirror pod.
std::optional<std::string> PodUidOf(std::string_view name);

// Does a folder within that of a pod hold a container? CRI-O also puts its monitor there ("crio-conmon-ID.scope"), which
// is a process of the node.
bool IsContainerFolder(std::string_view name);

}  // namespace egress::node
