// pybind11, loaded through this header only: files that see different parts of it break the one
// definition rule.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;
