package textbundle

import android.content.Context
import com.google.mediapipe.tasks.text.textclassifier.TextClassifier
import com.google.mediapipe.tasks.text.textembedder.TextEmbedder
import java.io.File

/**
 * MediaPipe's TextEmbedder on a .tflite that was exported with `metadata=True`; it needs no other
 * file.
 *
 * MediaPipe lower-cases A to Z only and keeps accents, so a text is normalized before.
 */
class MediaPipeEmbedder(context: Context, model: File) : AutoCloseable {
  private val task = TextEmbedder.createFromFile(context, model)

  /** The embedding of a text. */
  fun embed(text: String): FloatArray =
    task.embed(BertTokenizer.normalize(text)).embeddingResult().embeddings().first()
      .floatEmbedding()

  override fun close() = task.close()
}

/** MediaPipe's TextClassifier, as above. */
class MediaPipeClassifier(context: Context, model: File) : AutoCloseable {
  private val task = TextClassifier.createFromFile(context, model)

  /** The probability of each label, the most probable first. */
  fun classify(text: String): List<Pair<String, Float>> =
    task.classify(BertTokenizer.normalize(text)).classificationResult().classifications().first()
      .categories().map { it.categoryName() to it.score() }

  override fun close() = task.close()
}
