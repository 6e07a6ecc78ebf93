// The few calls that gcc makes for our parallel regions, on std::thread. ThreadSanitizer sees every
// synchronisation in here; libgomp, which is not instrumented, would make it report races that are
// none.
#include <mutex>
#include <thread>
#include <vector>

namespace {
thread_local int thread_number = 0;
std::mutex critical;
}  // namespace

extern "C" {

int omp_get_thread_num() { return thread_number; }

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned /*flags*/) {
  std::vector<std::thread> workers;
  for (unsigned k = 1; k < threads; ++k)
    workers.emplace_back([=] {
      thread_number = static_cast<int>(k);
      body(data);
    });
  body(data);
  for (std::thread& worker : workers) worker.join();
}

void GOMP_critical_name_start(void** /*name*/) { critical.lock(); }
void GOMP_critical_name_end(void** /*name*/) { critical.unlock(); }
}
