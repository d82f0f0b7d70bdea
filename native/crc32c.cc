// crc32c as ext4 and jbd2 use it: reflected polynomial 0x82F63B78 (RFC 3720, 12.1), the seed taken
// as it is and the result not inverted, like crc32c() of the kernel's lib/crc. One instruction per
// eight bytes where the processor has it, a table elsewhere.

#include <array>
#include <cstdint>
#include <cstring>

#include "addon.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace {

using Checksum = uint32_t (*)(uint32_t crc, const uint8_t* bytes, size_t length);

constexpr uint32_t POLYNOMIAL = 0x82F63B78;

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> TABLE = makeTable();

uint32_t byTable(uint32_t crc, const uint8_t* bytes, size_t length) {
  for (size_t i = 0; i < length; i++) crc = (crc >> 8) ^ TABLE[(crc ^ bytes[i]) & 0xff];
  return crc;
}

uint64_t load64(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) uint32_t byInstruction(uint32_t crc, const uint8_t* bytes,
                                                         size_t length) {
  uint64_t wide = crc;
  for (; length >= 8; bytes += 8, length -= 8) wide = __builtin_ia32_crc32di(wide, load64(bytes));
  crc = static_cast<uint32_t>(wide);
  for (; length > 0; bytes++, length--) crc = __builtin_ia32_crc32qi(crc, *bytes);
  return crc;
}

Checksum choose() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.2") ? byInstruction : byTable;
}

#elif defined(__aarch64__)

/** HWCAP_CRC32 of arch/arm64/include/uapi/asm/hwcap.h. */
constexpr unsigned long HAS_CRC32 = 1 << 7;

uint32_t byInstruction(uint32_t crc, const uint8_t* bytes, size_t length) {
  for (; length >= 8; bytes += 8, length -= 8)
    asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(load64(bytes)));
  for (; length > 0; bytes++, length--)
    asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(uint32_t{*bytes}));
  return crc;
}

Checksum choose() {
  return (getauxval(AT_HWCAP) & HAS_CRC32) != 0 ? byInstruction : byTable;
}

#else

Checksum choose() {
  return byTable;
}

#endif

const Checksum checksum = choose();

/** `crc32c(seed, bytes)`; a checksum of nothing when `bytes` is no typed array. */
napi_value crc32c(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);

  uint32_t seed = 0;
  napi_get_value_uint32(env, arguments[0], &seed);
  size_t length = 0;
  void* bytes = nullptr;
  napi_typedarray_type type = napi_uint8_array;
  napi_get_typedarray_info(env, arguments[1], &type, &length, &bytes, nullptr, nullptr);
  if (type != napi_uint8_array) length = 0;

  napi_value result;
  napi_create_uint32(env, checksum(seed, static_cast<const uint8_t*>(bytes), length), &result);
  return result;
}

}  // namespace

void registerChecksum(napi_env env, napi_value exports) {
  exportFunction(env, exports, "crc32c", crc32c);
}
