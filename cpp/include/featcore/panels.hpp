// Weights in panels: kPanel neurons side by side, as (panel, input, neuron of the panel). This is
// how a kernel reads them, so a run keeps them so and never packs; padding neurons are zero and
// stay zero.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "featcore/partition.hpp"
#include "featcore/simd.hpp"

namespace featcore {

// Zeros, aligned to cache lines.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index count) : count_(count) {
    if (count == 0) return;
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!data_) throw std::bad_alloc();
    std::fill_n(data_.get(), count, T(0));
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  Index size() const { return count_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  Index count_ = 0;
  std::unique_ptr<T, Free> data_;
};

// Neurons m and inputs d of a network, cut into panels.
template <class T>
struct PanelShape {
  static constexpr Index kPanel = Simd<T>::kPanel;

  Index m = 0;
  Index d = 0;

  Index panels() const { return ceil_div(m, kPanel); }
  Index stride() const { return d * kPanel; }  // of a panel of W
  // Neurons of a panel, and vectors that hold them: fewer in the last one.
  Index neurons(Index panel) const { return std::min(kPanel, m - panel * kPanel); }
  int vectors(Index panel) const {
    return static_cast<int>(ceil_div(neurons(panel), Simd<T>::kLanes));
  }
};

template <class T>
struct Panels {
  PanelShape<T> shape;
  Buffer<T> W;  // (panels, d, kPanel)
  Buffer<T> a;  // (panels, kPanel)

  Panels() = default;
  Panels(Index m, Index d)
      : shape{m, d}, W(shape.panels() * shape.stride()), a(shape.panels() * shape.kPanel) {}
  explicit Panels(const NetworkView<T>& net) : Panels(net.m, net.d) {
    constexpr Index kPanel = PanelShape<T>::kPanel;
    for (Index j = 0; j < net.m; ++j) {
      T* column = W.data() + j / kPanel * shape.stride() + j % kPanel;
      for (Index k = 0; k < net.d; ++k) column[k * kPanel] = net.W[j * net.d + k];
    }
    std::copy_n(net.a, net.m, a.data());
  }

  // Rows j, (m, d), of weights in panels.
  static void rows(const PanelShape<T>& shape, const T* panels, T* out) {
    constexpr Index kPanel = PanelShape<T>::kPanel;
    for (Index j = 0; j < shape.m; ++j) {
      const T* column = panels + j / kPanel * shape.stride() + j % kPanel;
      for (Index k = 0; k < shape.d; ++k) out[j * shape.d + k] = column[k * kPanel];
    }
  }
};

}  // namespace featcore
