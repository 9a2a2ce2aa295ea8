#include "server/session/arena.h"

#include <utility>

#include "common/base/status.h"

namespace trun {

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t id, uint64_t bytes, AddressSpace* addresses) {
  bytes = (bytes + AddressSpace::kGranule - 1) / AddressSpace::kGranule * AddressSpace::kGranule;
  TRUN_ASSIGN_OR_RETURN(UniqueFd descriptor, device::CreateSealedMemory(bytes));
  TRUN_ASSIGN_OR_RETURN(device::MappedMemory mapping, device::MappedMemory::Map(descriptor, bytes));
  const std::optional<uint64_t> address = addresses->Reserve(bytes);
  if (!address.has_value()) return ResourceExhausted(Reason::kOutOfMemory, "no device addresses are left");
  return std::unique_ptr<Arena>(
      new Arena(id, *address, addresses, std::move(descriptor), std::move(mapping)));
}

Arena::~Arena() { addresses_->Release(address_, bytes()); }

}  // namespace trun
