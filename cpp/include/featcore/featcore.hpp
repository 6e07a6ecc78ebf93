// featcore: everything a C++ user includes. Header-only; needs C++17, Eigen >= 3.4 and, for more
// than one thread, OpenMP.
#pragma once

#include "featcore/activation.hpp"
#include "featcore/descent.hpp"
#include "featcore/eigensolvers.hpp"
#include "featcore/event_flow.hpp"
#include "featcore/flow.hpp"
#include "featcore/flow_frames.hpp"
#include "featcore/flow_memory.hpp"
#include "featcore/forms.hpp"
#include "featcore/gradient.hpp"
#include "featcore/hinge_flow.hpp"
#include "featcore/kernel_tiles.hpp"
#include "featcore/loss.hpp"
#include "featcore/objective.hpp"
#include "featcore/observables.hpp"
#include "featcore/recorder.hpp"
#include "featcore/spectrum.hpp"
#include "featcore/throughput.hpp"
#include "featcore/types.hpp"
#include "featcore/weights.hpp"
