#pragma once
// Copies of one guest have one state of the kernel's random number generator. What is written to /dev/urandom is mixed
// into its pool and taken up at the next reseed only, up to minutes later: this program asks for one.

#include <string>

namespace infrastructure_sdk::qemu {

/// A static ELF program for Linux on x86-64: ioctl(open("/dev/urandom"), RNDRESEEDCRNG), and ends with 0 or with the
/// number of the error (1: it is not root, 61: the generator is not ready yet). Pure.
/// Sources: random(4); linux/random.h
std::string reseed_program();

/// Where the donor of a template has it.
constexpr const char* reseed_path = "/etc/isdk-reseed";

}  // namespace infrastructure_sdk::qemu
