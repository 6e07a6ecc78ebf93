// Weights in panels: kPanel neurons side by side, as (panel, input, neuron of the panel). This is
// how a kernel reads them, so a run keeps them so and never packs; padding neurons are zero and
// stay zero.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"
#include "featcore/simd.hpp"

namespace featcore {

// Zeros, aligned to cache lines.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index count) : Buffer(unset(count)) {
    if (count > 0) std::fill_n(data_.get(), count, T(0));
  }

  // No zeros yet: whatever was there.
  static Buffer unset(Index count) {
    Buffer buffer;
    if (count == 0) return buffer;
    const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    buffer.data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
    if (!buffer.data_) throw std::bad_alloc();
    buffer.count_ = count;
    return buffer;
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
  Panels(Index m, Index d, const Team& team)
      : shape{m, d},
        W(Buffer<T>::unset(shape.panels() * shape.stride())),
        a(shape.panels() * shape.kPanel) {
    each_block(shape, team, [&](Index p, Index begin, Index end) {
      T* panel = W.data() + p * shape.stride();
      std::fill(panel + begin * shape.kPanel, panel + end * shape.kPanel, T(0));
    });
  }
  explicit Panels(const NetworkView<T>& net)
      : shape{net.m, net.d},
        W(Buffer<T>::unset(shape.panels() * shape.stride())),
        a(shape.panels() * shape.kPanel) {
    pack(shape, net.W, W.data());
    std::copy_n(net.a, net.m, a.data());
  }
  Panels(const NetworkView<T>& net, const Team& team)
      : shape{net.m, net.d},
        W(Buffer<T>::unset(shape.panels() * shape.stride())),
        a(shape.panels() * shape.kPanel) {
    each_block(shape, team, [&](Index p, Index begin, Index end) {
      pack_block(shape, net.W, p, begin, end, W.data());
    });
    std::copy_n(net.a, net.m, a.data());
  }

  // Panels of weights whose rows j are those of `rows`, (m, d).
  static void pack(const PanelShape<T>& shape, const T* rows, T* panels) {
    each_block(shape, [&](Index p, Index begin, Index end) {
      pack_block(shape, rows, p, begin, end, panels);
    });
  }

  // Rows j, (m, d), of weights in panels.
  static void rows(const PanelShape<T>& shape, const T* panels, T* out) {
    each_block(shape, [&](Index p, Index begin, Index end) {
      unpack_block(shape, panels, p, begin, end, out);
    });
  }
  static void rows(const PanelShape<T>& shape, const T* panels, const Team& team, T* out) {
    each_block(shape, team, [&](Index p, Index begin, Index end) {
      unpack_block(shape, panels, p, begin, end, out);
    });
  }

 private:
  static void pack_block(const PanelShape<T>& shape, const T* rows, Index p, Index begin, Index end,
                         T* panels) {
    T* panel = panels + p * shape.stride();
    if (shape.neurons(p) < shape.kPanel)
      std::fill(panel + begin * shape.kPanel, panel + end * shape.kPanel, T(0));
    for (Index l = 0; l < shape.neurons(p); ++l) {
      const T* row = rows + (p * shape.kPanel + l) * shape.d;
      for (Index k = begin; k < end; ++k) panel[k * shape.kPanel + l] = row[k];
    }
  }

  static void unpack_block(const PanelShape<T>& shape, const T* panels, Index p, Index begin,
                           Index end, T* out) {
    for (Index l = 0; l < shape.neurons(p); ++l) {
      T* row = out + (p * shape.kPanel + l) * shape.d;
      const T* column = panels + p * shape.stride() + l;
      for (Index k = begin; k < end; ++k) row[k] = column[k * shape.kPanel];
    }
  }

  // body(panel, begin, end) for inputs that stay in the first-level cache.
  static constexpr Index kInputs = 64;
  template <class Body>
  static void each_block(const PanelShape<T>& shape, Body&& body) {
    for (Index p = 0; p < shape.panels(); ++p)
      for (Index k = 0; k < shape.d; k += kInputs) body(p, k, std::min(k + kInputs, shape.d));
  }
  template <class Body>
  static void each_block(const PanelShape<T>& shape, const Team& team, Body&& body) {
    const double work = 2.0 * static_cast<double>(shape.stride());
    team.for_work(work * static_cast<double>(shape.panels()))
        .for_each(shape.panels(), [&](Index p, const Worker& worker) {
          for (Index k = 0; k < shape.d; k += kInputs) {
            if (worker.stop(2.0 * static_cast<double>(kInputs * shape.kPanel))) return;
            body(p, k, std::min(k + kInputs, shape.d));
          }
        });
  }
};

}  // namespace featcore
