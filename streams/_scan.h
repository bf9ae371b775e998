/* What the compiled lanes read JSON with, and how they find a price among a ladder's. */
#ifndef TAPELINE_SCAN_H
#define TAPELINE_SCAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define COUNT_MAX (1LL << 53)          /* streams.events.Count, Ordinal: below */
#define MILLIS_MAX 253370764800000LL   /* streams.events.Millis: below */
#define VALUE_MAX (1LL << 62)          /* streams.events.Price, Size: at most */
#define DIGITS_MAX 19

/* Where reading is, and the end. The text ends in a NUL, so that no digit is past the end. */
typedef struct {
    const char *at, *end;
} Cursor;

/* Move behind a text, if it comes next. */
#define AFTER(cursor, literal) after(cursor, literal, sizeof(literal) - 1)
static inline bool after(Cursor *cursor, const char *text, size_t length) {
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length) != 0)
        return false;
    cursor->at += length;
    return true;
}

/* A JSON integer from 0 to `most`. */
static inline bool natural(Cursor *cursor, int64_t most, int64_t *value) {
    const char *p = cursor->at;
    uint64_t n = 0;
    if (*p == '0') {
        p++;
    } else {
        while (*p >= '0' && *p <= '9') {
            if (p - cursor->at >= DIGITS_MAX)
                return false;
            n = n * 10 + (uint64_t)(*p++ - '0');
        }
    }
    if (p == cursor->at || (*p >= '0' && *p <= '9') || n > (uint64_t)most)
        return false;
    cursor->at = p;
    *value = (int64_t)n;
    return true;
}

/* As 64 bits; what is larger, as the largest. */
static inline int64_t as_int64(PyObject *number) {
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return overflow == 0 ? value : overflow > 0 ? INT64_MAX : INT64_MIN;
}

/* An attribute that is an int of 64 bits; false where it is something else, or an error is set. */
static inline bool number(PyObject *owner, PyObject *name, int64_t *value) {
    PyObject *found = PyObject_GetAttr(owner, name);
    int overflow = 1;
    if (found == NULL)
        return false;
    if (PyLong_CheckExact(found))
        *value = PyLong_AsLongLongAndOverflow(found, &overflow);
    Py_DECREF(found);
    return overflow == 0;
}

/* What a `streams.ladder.Ladder` is made of. */
typedef struct {
    PyObject *sizes, *prices;
} Side;

/* The side of a book that an attribute names; false where it is not made as it should be. */
static inline bool side_of(PyObject *book, PyObject *name, PyObject *sizes, PyObject *prices,
                           Side *side) {
    PyObject *ladder = PyObject_GetAttr(book, name);
    if (ladder == NULL)
        return false;
    side->sizes = PyObject_GetAttr(ladder, sizes);
    side->prices = PyObject_GetAttr(ladder, prices);
    Py_DECREF(ladder);
    return side->sizes != NULL && side->prices != NULL && PyDict_CheckExact(side->sizes)
           && PyList_CheckExact(side->prices);
}

/* The place of a price, or where it would stand: `bisect_left`. */
static inline Py_ssize_t place_of(PyObject *prices, int64_t px) {
    Py_ssize_t low = 0, high = PyList_GET_SIZE(prices);
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (as_int64(PyList_GET_ITEM(prices, middle)) < px)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* `list.insert`, which moves the rest by a block copy: a book's side has thousands of prices. */
static inline bool insert_at(PyObject *list, Py_ssize_t place, PyObject *item) {
    if (PyList_Append(list, item) < 0)
        return false;
    PyObject **items = ((PyListObject *)list)->ob_item;
    memmove(items + place + 1, items + place,
            (size_t)(PyList_GET_SIZE(list) - 1 - place) * sizeof *items);
    items[place] = item;
    return true;
}

#endif
