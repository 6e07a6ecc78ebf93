// What the head of a network sees: sigma(<w_j, x_i>) for all samples and neurons, in one pass. A
// tile's products, its activation and its way to memory follow one another while it is near.
#pragma once

#include <algorithm>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/micro.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// out is (n, m); x is (n, d).
template <class T>
void network_features(const NetworkView<T>& net, Activation activation, Index n, const T* x,
                      const Team& whole_team, T* out) {
  const DefaultFloats floats;
  using S = Simd<T>;
  constexpr Index kPanel = S::kPanel;
  constexpr Index kPanelsAnItem = 4;  // read the same samples, near as they are
  const Panels<T> panels(net, whole_team);
  const PanelShape<T>& shape = panels.shape;
  const Cut tiles(n, ceil_div(n, Partition<T>::samples(net.d)), kMicroBlock);
  const Index chunks = ceil_div(shape.panels(), kPanelsAnItem);
  const double work = 2.0 * static_cast<double>(n) * static_cast<double>(net.m * (net.d + 4));
  const Team team = whole_team.for_work(work);
  team.monitor().stage(
      1, work * static_cast<double>(net.d) / static_cast<double>(net.d + 4) / team.threads());
  std::vector<Buffer<T>> scratch(static_cast<std::size_t>(team.threads()));
  const T offset = static_cast<T>(activation.offset);
  team.for_each(chunks * tiles.pieces(), [&](Index item, const Worker& worker) {
    const Index chunk = item / tiles.pieces();
    const Index s = item % tiles.pieces();
    const Index first = tiles.begin(s);
    const Index samples = tiles.end(s) - first;
    Buffer<T>& tile = scratch[static_cast<std::size_t>(worker.id)];
    if (tile.size() == 0) tile = Buffer<T>(tiles.length * kPanel);
    const Index end = std::min(shape.panels(), (chunk + 1) * kPanelsAnItem);
    for (Index p = chunk * kPanelsAnItem; p < end; ++p) {
      if (worker.stop(2.0 * static_cast<double>(samples * net.d * kPanel))) return;
      micro::with_vectors(shape.vectors(p), [&](auto vectors) {
        micro::panel_products<T, vectors()>(panels.W.data() + p * shape.stride(), x + first * net.d,
                                            samples, net.d, tile.data());
      });
      activate<T>(activation, tile.data(), tile.data(), nullptr, samples * kPanel);
      for (Index i = 0; i < samples; ++i) {
        const T* row = tile.data() + i * kPanel;
        T* to = out + (first + i) * net.m + p * kPanel;
        for (Index l = 0; l < shape.neurons(p); ++l) to[l] = row[l] - offset;
      }
    }
  });
}

}  // namespace featcore
