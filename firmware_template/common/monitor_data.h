/* What goes into the network and comes out of it, in the host's terms: the buffer of `db`, and scores as decimals. */
#ifndef MONITOR_DATA_H
#define MONITOR_DATA_H

#include <stdint.h>

#include "tk_model.h"

/*
 * What the bytes of `db` are. MLPerf Tiny's scripts send pixels 0..255 to ic01 and vww01 and float32 to ad01; everything else is sent as it
 * is stored. The generated header says so by one of
 *   TK_INPUT_FLIP    each byte is a pixel: stored = pixel - 128
 *   TK_INPUT_SCALE   float32, with TK_INPUT_ZERO: stored = round(value / scale) + zero, int8
 */
#ifndef TK_INPUT_FLIP
#define TK_INPUT_FLIP 0
#endif
#ifdef TK_INPUT_SCALE
#define TK_WIRE_SIZE (4 * TK_INPUT_SIZE)
#define TK_WIRE_KIND "float32"
#else
#define TK_WIRE_SIZE TK_INPUT_SIZE
#define TK_WIRE_KIND (TK_INPUT_FLIP ? "pixels" : "stored")
#endif

/* The network's input as it is stored. A buffer of its own: invoke may overwrite the arena's, and every inference starts from this one. */
extern uint8_t tk_monitor_input[TK_INPUT_SIZE];

/* The last inference's output as it is stored, if there was one. */
extern uint8_t tk_monitor_output[TK_OUTPUT_SIZE];

/* `db load N`, `db HH...`, `db print` */
void command_db(void);

/* m-results-[...]: the scores of the first output, or the mean squared error where the network is an autoencoder's. */
void put_results(void);

#endif
