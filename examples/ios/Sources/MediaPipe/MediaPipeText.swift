import Foundation
import MediaPipeTasksText

/// MediaPipe's TextEmbedder on a .tflite that was exported with `metadata=True`; it needs no other
/// file.
///
/// MediaPipe lower-cases A to Z only and keeps accents, so a text is normalized before.
final class MediaPipeEmbedder {
  private let task: TextEmbedder

  init(modelPath: String) throws {
    task = try TextEmbedder(modelPath: modelPath)
  }

  /// The embedding of a text.
  func embed(_ text: String) throws -> [Float] {
    let result = try task.embed(text: BertTokenizer.normalize(text))
    return result.embeddingResult.embeddings[0].floatEmbedding?.map(\.floatValue) ?? []
  }
}

/// MediaPipe's TextClassifier, as above.
final class MediaPipeClassifier {
  private let task: TextClassifier

  init(modelPath: String) throws {
    task = try TextClassifier(modelPath: modelPath)
  }

  /// The probability of each label, the most probable first.
  func classify(_ text: String) throws -> [(label: String, score: Float)] {
    let result = try task.classify(text: BertTokenizer.normalize(text))
    return result.classificationResult.classifications[0].categories.map {
      ($0.categoryName ?? String($0.index), $0.score)
    }
  }
}
