/* verify.c: what is wrong with a peer's certificate, in words. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "tls.h"

/* ---- recording ---- */

static void record(struct tls *tls, int depth, int code) {
  if (!tls->errors)
    tls->errors = calloc(1, sizeof *tls->errors);
  struct verify_errors *errors = tls->errors;
  if (errors && errors->count < (int)(sizeof errors->list / sizeof *errors->list)) {
    errors->list[errors->count].depth = depth;
    errors->list[errors->count++].code = code;
  }
}

void verify_free(struct tls *tls) {
  free(tls->errors);
  OPENSSL_free(tls->problem);
  tls->errors = NULL;
  tls->problem = NULL;
}

/* ---- describing ---- */

static void print_name(BIO *out, const X509_NAME *name) {
  if (X509_NAME_entry_count(name) == 0)
    BIO_puts(out, "no name");
  else
    X509_NAME_print_ex(out, name, 0, XN_FLAG_ONELINE & ~(XN_FLAG_SPC_EQ | ASN1_STRFLGS_ESC_MSB));
}

static void print_address(BIO *out, const ASN1_OCTET_STRING *address) {
  char text[INET6_ADDRSTRLEN];
  int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
  if (ASN1_STRING_length(address) == (family == AF_INET ? 4 : 16))
    BIO_puts(out, inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text));
}

/* The names that a certificate is for. */
static void print_names(BIO *out, X509 *x509) {
  const char *separator = "";
  GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS && name->type != GEN_IPADD)
      continue;
    BIO_puts(out, separator);
    separator = ", ";
    if (name->type == GEN_DNS)
      ASN1_STRING_print_ex(out, name->d.dNSName, ASN1_STRFLGS_ESC_CTRL);
    else
      print_address(out, name->d.iPAddress);
  }
  GENERAL_NAMES_free(names);
  if (!*separator)
    print_name(out, X509_get_subject_name(x509));
}

/* Which certificate of the chain, the peer's own being the first. */
static void print_which(BIO *out, X509 *x509, int depth) {
  BIO_puts(out, " (certificate of ");
  print_name(out, X509_get_subject_name(x509));
  BIO_printf(out, ", issued by ");
  print_name(out, X509_get_issuer_name(x509));
  BIO_printf(out, ", depth %d)", depth);
}

static void print_problem(BIO *out, const struct tls *tls, X509_STORE_CTX *store) {
  int code = X509_STORE_CTX_get_error(store);
  X509 *x509 = X509_STORE_CTX_get_current_cert(store);
  if (x509 && (code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH)) {
    BIO_printf(out, "the certificate is not for '%s' but for ", tls->name);
    print_names(out, x509);
    return;
  }
  BIO_puts(out, X509_verify_cert_error_string(code));
  if (x509)
    print_which(out, x509, X509_STORE_CTX_get_error_depth(store));
}

static char *describe(const struct tls *tls, X509_STORE_CTX *store) {
  BIO *out = BIO_new(BIO_s_mem());
  char *data, *text = NULL;
  if (out) {
    print_problem(out, tls, store);
    long size = BIO_get_mem_data(out, &data);
    text = OPENSSL_strndup(data, (size_t)size);
  }
  BIO_free(out);
  return text;
}

/* ---- the callback ---- */

/* OpenSSL asks it about each certificate, and about each thing wrong with one. */
int verify_callback(int ok, X509_STORE_CTX *store) {
  SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
  struct tls *tls = tls_of(ssl);
  if (ok)
    return 1;
  int code = X509_STORE_CTX_get_error(store);
  if (code == X509_V_ERR_INVALID_PURPOSE && tls->context->ignores_purpose) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  record(tls, X509_STORE_CTX_get_error_depth(store), code);
  if (!tls->problem)
    tls->problem = describe(tls, store);
  return tls->context->continues;
}
