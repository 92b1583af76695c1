/* The envelopes' codec in C: priv/python/pyre/_etf.py, for what is well-formed and nothing else.
 *
 * `decode` and `encode` give None for whatever they don't know or don't allow. The caller then asks the codec in Python, which
 * decodes it or says what is wrong with it; so no error is worded twice, and the two can't disagree about what is allowed.
 *
 * The bytes are hostile until they are decoded: each read is checked against the end, and a size or count against the bytes that
 * are left, before anything is made for it. Only the limited API is used, so that one library serves every CPython from 3.11 on.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

enum {
    VERSION = 131,
    SMALL_INTEGER = 97,
    INTEGER = 98,
    SMALL_TUPLE = 104,
    NIL = 106,
    LIST = 108,
    BINARY = 109,
    SMALL_BIG = 110,
};

/* docs/wire.md; test/python/test_codec.py compares them with _wire.py. */
#define MAX_NESTING 8
#define MAX_TUPLE_SIZE 255
#define MAX_BIG_BYTES 8

/* --- Reading. Each function gives a new reference; or NULL, and then either declines or has set MemoryError. --- */

typedef struct {
    const unsigned char *at;
    const unsigned char *end;
} Reader;

static uint32_t u32(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

static PyObject *read_term(Reader *reader, int depth);

/* What a tuple or list has to begin with is checked by the caller: that so many bytes are left. */
static PyObject *read_tuple(Reader *reader, Py_ssize_t count, int depth) {
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = read_term(reader, depth);
        if (item == NULL || PyTuple_SetItem(tuple, i, item) < 0) {
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

/* Grows with what is there: lists in lists could each promise as many items as there are bytes. */
static PyObject *read_list(Reader *reader, Py_ssize_t count, int depth) {
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = read_term(reader, depth);
        int failed = item == NULL || PyList_Append(list, item) < 0;
        Py_XDECREF(item);
        if (failed) {
            Py_DECREF(list);
            return NULL;
        }
    }
    if (reader->at == reader->end || *reader->at != NIL) {
        Py_DECREF(list);
        return NULL;
    }
    reader->at += 1;
    return list;
}

static PyObject *read_big(Reader *reader) {
    Py_ssize_t left = reader->end - reader->at;
    if (left < 2) return NULL;
    unsigned size = reader->at[0], sign = reader->at[1];
    if (size > MAX_BIG_BYTES || sign > 1 || left < 2 + (Py_ssize_t)size) return NULL;
    uint64_t magnitude = 0;
    for (unsigned i = 0; i < size; i++) magnitude |= (uint64_t)reader->at[2 + i] << 8 * i;
    reader->at += 2 + size;
    PyObject *value = PyLong_FromUnsignedLongLong(magnitude);
    if (value == NULL || !sign) return value;
    PyObject *negative = PyNumber_Negative(value);
    Py_DECREF(value);
    return negative;
}

static PyObject *read_term(Reader *reader, int depth) {
    Py_ssize_t left = reader->end - reader->at - 1;
    if (left < 0) return NULL;
    unsigned char tag = *reader->at++;
    const unsigned char *at = reader->at;
    switch (tag) {
    case SMALL_INTEGER:
        if (left < 1) return NULL;
        reader->at += 1;
        return PyLong_FromLong(at[0]);
    case INTEGER:
        if (left < 4) return NULL;
        reader->at += 4;
        return PyLong_FromLong((int32_t)u32(at));
    case SMALL_BIG:
        return read_big(reader);
    case BINARY: {
        if (left < 4) return NULL;
        Py_ssize_t size = u32(at);
        if (left - 4 < size) return NULL;
        reader->at += 4 + size;
        return PyBytes_FromStringAndSize((const char *)at + 4, size);
    }
    case NIL:
        return PyList_New(0);
    case SMALL_TUPLE: {
        if (left < 1 || depth >= MAX_NESTING) return NULL;
        Py_ssize_t count = at[0];
        if (left - 1 < count) return NULL;
        reader->at += 1;
        return read_tuple(reader, count, depth + 1);
    }
    case LIST: {
        if (left < 4 || depth >= MAX_NESTING) return NULL;
        Py_ssize_t count = u32(at);
        if (left - 4 < count) return NULL;
        reader->at += 4;
        return read_list(reader, count, depth + 1);
    }
    default:
        return NULL;
    }
}

static PyObject *declined(void) {
    if (PyErr_Occurred()) return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *data) {
    char *bytes;
    Py_ssize_t size;
    if (!PyBytes_CheckExact(data)) return declined();
    if (PyBytes_AsStringAndSize(data, &bytes, &size) < 0) return NULL;
    if (size < 1 || (unsigned char)bytes[0] != VERSION) return declined();
    Reader reader = {(const unsigned char *)bytes + 1, (const unsigned char *)bytes + size};
    PyObject *term = read_term(&reader, 0);
    if (term != NULL && reader.at == reader.end) return term;
    Py_XDECREF(term);
    return declined();
}

/* --- Writing: once through to learn the size and whether all is allowed, once more to write. Only ints, bytes, lists and tuples
 * are looked at, which run no Python code, so nothing changes in between. --- */

static const Py_ssize_t DECLINED = -1;

/* An int as a sign and a magnitude; false where it has more than 64 bits. */
static int read_int(PyObject *value, int *negative, uint64_t *magnitude) {
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (!overflow) {
        if (small == -1 && PyErr_Occurred()) return 0;
        *negative = small < 0;
        *magnitude = small < 0 ? 0 - (uint64_t)small : (uint64_t)small;
        return 1;
    }
    if (overflow < 0) return 0;
    *negative = 0;
    *magnitude = PyLong_AsUnsignedLongLong(value);
    if (*magnitude == (uint64_t)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) PyErr_Clear();
        return 0;
    }
    return 1;
}

static unsigned bytes_of(uint64_t magnitude) {
    unsigned count = 0;
    for (; magnitude; magnitude >>= 8) count++;
    return count;
}

static int is_small(int negative, uint64_t magnitude) { return !negative && magnitude <= 255; }

static int is_32_bits(int negative, uint64_t magnitude) { return magnitude <= (uint64_t)INT32_MAX + (negative ? 1 : 0); }

static Py_ssize_t size_of_items(PyObject *item, int depth);

static Py_ssize_t size_of(PyObject *item, int depth) {
    if (PyBytes_CheckExact(item)) {
        Py_ssize_t size = PyBytes_Size(item);
        return size < 0 || (uint64_t)size > UINT32_MAX ? DECLINED : 5 + size;
    }
    if (PyLong_CheckExact(item)) {
        int negative;
        uint64_t magnitude;
        if (!read_int(item, &negative, &magnitude)) return DECLINED;
        if (is_small(negative, magnitude)) return 2;
        return is_32_bits(negative, magnitude) ? 5 : 3 + (Py_ssize_t)bytes_of(magnitude);
    }
    return size_of_items(item, depth);
}

static Py_ssize_t size_of_items(PyObject *item, int depth) {
    int is_list = PyList_CheckExact(item);
    if (!is_list && !PyTuple_CheckExact(item)) return DECLINED;
    Py_ssize_t count = is_list ? PyList_Size(item) : PyTuple_Size(item);
    if (is_list && count == 0) return 1;
    if (count < 0 || depth >= MAX_NESTING || (!is_list && count > MAX_TUPLE_SIZE) || (uint64_t)count > UINT32_MAX)
        return DECLINED;
    Py_ssize_t total = is_list ? 6 : 2;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t size = size_of(is_list ? PyList_GetItem(item, i) : PyTuple_GetItem(item, i), depth + 1);
        if (size < 0 || size > PY_SSIZE_T_MAX - total) return DECLINED;
        total += size;
    }
    return total;
}

static unsigned char *put_u32(unsigned char *at, unsigned char tag, uint32_t value) {
    at[0] = tag;
    at[1] = (unsigned char)(value >> 24);
    at[2] = (unsigned char)(value >> 16);
    at[3] = (unsigned char)(value >> 8);
    at[4] = (unsigned char)value;
    return at + 5;
}

static unsigned char *put_int(unsigned char *at, PyObject *value) {
    int negative = 0;
    uint64_t magnitude = 0;
    (void)read_int(value, &negative, &magnitude); /* it had a size, so it can be read */
    if (is_small(negative, magnitude)) {
        at[0] = SMALL_INTEGER;
        at[1] = (unsigned char)magnitude;
        return at + 2;
    }
    if (is_32_bits(negative, magnitude))
        return put_u32(at, INTEGER, negative ? 0 - (uint32_t)magnitude : (uint32_t)magnitude);
    unsigned size = bytes_of(magnitude);
    at[0] = SMALL_BIG;
    at[1] = (unsigned char)size;
    at[2] = (unsigned char)negative;
    for (unsigned i = 0; i < size; i++) at[3 + i] = (unsigned char)(magnitude >> 8 * i);
    return at + 3 + size;
}

static unsigned char *put(unsigned char *at, PyObject *item) {
    if (PyBytes_CheckExact(item)) {
        Py_ssize_t size = PyBytes_Size(item);
        at = put_u32(at, BINARY, (uint32_t)size);
        memcpy(at, PyBytes_AsString(item), (size_t)size);
        return at + size;
    }
    if (PyLong_CheckExact(item)) return put_int(at, item);
    if (PyTuple_CheckExact(item)) {
        Py_ssize_t count = PyTuple_Size(item);
        *at++ = SMALL_TUPLE;
        *at++ = (unsigned char)count;
        for (Py_ssize_t i = 0; i < count; i++) at = put(at, PyTuple_GetItem(item, i));
        return at;
    }
    Py_ssize_t count = PyList_Size(item);
    if (count) {
        at = put_u32(at, LIST, (uint32_t)count);
        for (Py_ssize_t i = 0; i < count; i++) at = put(at, PyList_GetItem(item, i));
    }
    *at++ = NIL;
    return at;
}

static PyObject *encode(PyObject *Py_UNUSED(module), PyObject *envelopes) {
    if (!PyList_CheckExact(envelopes)) return declined();
    for (Py_ssize_t i = 0; i < PyList_Size(envelopes); i++)
        if (!PyTuple_CheckExact(PyList_GetItem(envelopes, i))) return declined();
    Py_ssize_t size = size_of(envelopes, 0);
    if (size < 0 || size == PY_SSIZE_T_MAX) return declined();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, 1 + size);
    if (bytes == NULL) return NULL;
    unsigned char *at = (unsigned char *)PyBytes_AsString(bytes);
    *at = VERSION;
    put(at + 1, envelopes);
    return bytes;
}

/* --- The module --- */

static PyMethodDef methods[] = {
    {"decode", decode, METH_O, "Read one whole term of the bytes; None where `pyre._etf.decode` is to be asked."},
    {"encode", encode, METH_O, "Write a list of envelopes as one term; None where `pyre._etf.encode` is to be asked."},
    {NULL, NULL, 0, NULL},
};

static int add_limits(PyObject *module) {
    return PyModule_AddIntConstant(module, "MAX_ENVELOPE_NESTING", MAX_NESTING) < 0 ||
                   PyModule_AddIntConstant(module, "MAX_TUPLE_SIZE", MAX_TUPLE_SIZE) < 0
               ? -1
               : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)add_limits},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyre._codec_c",
    .m_doc = "The codec of pyre._etf in C, for what is well-formed.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__codec_c(void) { return PyModuleDef_Init(&definition); }
