// Python's stable ABI: one build serves every Python from 3.10 on.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_PYTHON_API_H_
#define TRUN_CLIENT_PYTHON_NATIVE_PYTHON_API_H_

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030A0000
#endif
#include <Python.h>

#endif  // TRUN_CLIENT_PYTHON_NATIVE_PYTHON_API_H_
