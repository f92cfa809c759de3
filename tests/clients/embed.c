/* Loads a SavedModel with TensorFlow's C API and prints the embedding of a text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

static void check(TF_Status* status) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(1);
  }
}

/* The tensor of a signature's input or output is called "<operation>:<index>". */
static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[256];
  const char* colon = strrchr(name, ':');
  size_t length = colon ? (size_t)(colon - name) : strlen(name);
  if (length >= sizeof operation) exit(1);
  memcpy(operation, name, length);
  operation[length] = 0;
  TF_Output output = {TF_GraphOperationByName(graph, operation), colon ? atoi(colon + 1) : 0};
  if (output.oper == NULL) {
    fprintf(stderr, "the graph has no operation %s\n", operation);
    exit(1);
  }
  return output;
}

static void ignore(void* data, size_t length, void* argument) {}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: %s SAVED_MODEL INPUT_TENSOR OUTPUT_TENSOR TEXT...\n", argv[0]);
    return 2;
  }
  int texts = argc - 4;
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status);

  TF_TString* strings = calloc(texts, sizeof *strings);
  for (int i = 0; i < texts; i++) {
    TF_TString_Init(&strings[i]);
    TF_TString_Copy(&strings[i], argv[4 + i], strlen(argv[4 + i]));
  }
  int64_t shape[] = {texts};
  TF_Tensor* input =
      TF_NewTensor(TF_STRING, shape, 1, strings, texts * sizeof *strings, ignore, NULL);
  TF_Output from = find(graph, argv[2]), to = find(graph, argv[3]);
  TF_Tensor* output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  check(status);

  const float* values = TF_TensorData(output);
  int64_t features = TF_Dim(output, 1);
  for (int64_t row = 0; row < texts; row++) {
    for (int64_t i = 0; i < features; i++) {
      printf(i ? " %.9g" : "%.9g", values[row * features + i]);
    }
    printf("\n");
  }
  TF_DeleteTensor(output);
  TF_DeleteTensor(input);
  for (int i = 0; i < texts; i++) TF_TString_Dealloc(&strings[i]);
  free(strings);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
