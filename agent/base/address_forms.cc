#include "agent/base/address_forms.h"

#include <algorithm>

namespace egress {

AddressForms::AddressForms(const Address& address) : forms_{address} {
  constexpr std::array<std::uint8_t, 12> kNat64 = {0, 0x64, 0xff, 0x9b};
  constexpr std::array<std::uint8_t, 2> k6to4 = {0x20, 0x02};
  constexpr std::array<std::uint8_t, 4> kTeredo = {0x20, 0x01, 0, 0};
  const auto begins = [&](const auto& head) { return std::equal(head.begin(), head.end(), address.bytes.begin()); };
  if (begins(kNat64)) AddV4(address, 12);
  if (begins(k6to4)) AddV4(address, 2);
  if (!begins(kTeredo)) return;
  AddV4(address, 4);
  AddV4(address, 12, 0xff);  // its bits are inverted
}

void AddressForms::AddV4(const Address& from, std::size_t at, std::uint8_t inverted) {
  Address& form = forms_[count_++];
  form.bytes[10] = form.bytes[11] = 0xff;
  for (std::size_t i = 0; i < 4; ++i) form.bytes[12 + i] = from.bytes[at + i] ^ inverted;
}

}  // namespace egress
