#include "server/session/arena.h"

#include <utility>

#include "common/base/status.h"

namespace trun {

namespace {

uint64_t WholeGranules(uint64_t bytes) {
  return (bytes + AddressSpace::kGranule - 1) / AddressSpace::kGranule * AddressSpace::kGranule;
}

absl::Status NoAddresses() { return ResourceExhausted(Reason::kOutOfMemory, "no device addresses are left"); }

}  // namespace

absl::StatusOr<std::unique_ptr<Arena>> Arena::Reserve(uint64_t id, uint64_t bytes, AddressSpace* addresses) {
  bytes = WholeGranules(bytes);
  const std::optional<uint64_t> address = addresses->Reserve(bytes);
  if (!address.has_value()) return NoAddresses();
  return std::unique_ptr<Arena>(
      new Arena(id, *address, bytes, addresses, UniqueFd(), device::MappedMemory()));
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t id, uint64_t bytes, AddressSpace* addresses) {
  bytes = WholeGranules(bytes);
  TRUN_ASSIGN_OR_RETURN(UniqueFd descriptor, device::CreateSealedMemory(bytes));
  TRUN_ASSIGN_OR_RETURN(device::MappedMemory mapping, device::MappedMemory::Map(descriptor, bytes));
  const std::optional<uint64_t> address = addresses->Reserve(bytes);
  if (!address.has_value()) return NoAddresses();
  return std::unique_ptr<Arena>(
      new Arena(id, *address, bytes, addresses, std::move(descriptor), std::move(mapping)));
}

std::unique_ptr<Arena> Arena::Import(uint64_t id, uint64_t address, uint64_t bytes, UniqueFd descriptor) {
  return std::unique_ptr<Arena>(
      new Arena(id, address, bytes, nullptr, std::move(descriptor), device::MappedMemory()));
}

Arena::~Arena() {
  if (!imported()) addresses_->Release(address_, bytes());
}

}  // namespace trun
