// Checks of our own, so that a bare machine can run the tests. One test program includes it once:
//
//   TEST(halves_of_even_numbers) { CHECK(half(4) == 2); CHECK_CLOSE(half(1.0), 0.5, 1e-15); }
//
// A program runs all of its tests, or those named on its command line, and fails if one does.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline bool add(const char* name, void (*run)()) {
  tests().push_back({name, run});
  return true;
}

template <class... Parts>
[[noreturn]] void fail(const char* file, int line, const Parts&... parts) {
  std::ostringstream message;
  message.precision(17);
  message << file << ":" << line << ": ";
  (message << ... << parts);
  throw Failure(message.str());
}

}  // namespace check

#define TEST(name)                                            \
  static void name();                                         \
  static const bool name##_added = ::check::add(#name, name); \
  static void name()

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) ::check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

// |got - want| <= tolerance; a NaN fails.
#define CHECK_CLOSE(got, want, tolerance)                                            \
  do {                                                                               \
    const double got_ = static_cast<double>(got), want_ = static_cast<double>(want); \
    if (!(std::abs(got_ - want_) <= (tolerance)))                                    \
      ::check::fail(__FILE__, __LINE__, #got, " = ", got_, ", not ", want_);         \
  } while (false)

#define CHECK_THROWS(type, statement)                                                    \
  do {                                                                                   \
    bool threw_ = false;                                                                 \
    try {                                                                                \
      statement;                                                                         \
    } catch (const type&) {                                                              \
      threw_ = true;                                                                     \
    }                                                                                    \
    if (!threw_) ::check::fail(__FILE__, __LINE__, #statement, " did not throw " #type); \
  } while (false)

int main(int argc, char** argv) {
  int failed = 0;
  for (const check::Test& test : check::tests()) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strcmp(argv[i], test.name) == 0;
    if (!wanted) continue;
    try {
      test.run();
      std::printf("ok    %s\n", test.name);
    } catch (const std::exception& error) {
      std::printf("FAIL  %s\n      %s\n", test.name, error.what());
      ++failed;
    }
  }
  return failed == 0 ? 0 : 1;
}
