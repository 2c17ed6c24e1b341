/*-------------------------------------------------------------------------
 *
 * fake_cublaslt.h
 *		What the stand-in for cuBLASLt has seen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_FAKE_CUBLASLT_H
#define DSOCR_FAKE_CUBLASLT_H

#ifdef __cplusplus
extern "C"
{
#endif

	typedef struct FakeCounts
	{
		int asked;	   /* for algorithms */
		int products;  /* computed */
		int most_rows; /* of one */
		int none;	   /* set: suggest no algorithm that may be used */
	} FakeCounts;

	extern FakeCounts fake_counts;

#ifdef __cplusplus
}
#endif

#endif /* DSOCR_FAKE_CUBLASLT_H */
