// The long tables of fields, in files of their own.
#pragma once

#include <span>

#include "agent/policy/schema.h"

namespace egress::policy {

std::span<const Field> MeshConfigFields();
std::span<const Field> TrafficSettingFields();

}  // namespace egress::policy
